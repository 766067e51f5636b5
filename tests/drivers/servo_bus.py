"""Feetech STS3215 servos behind a pseudo-terminal, as far as LeRobot speaks to them: protocol 0 and the memory table.

Packets: 0xFF 0xFF id length instruction parameters checksum; the checksum is the inverted sum from the id on (Feetech,
"SMS-STS series memory table" and "communication protocol manual"). Two-byte numbers are little-endian.
"""

import os
import pty
import select
import threading
import tty
from collections.abc import Mapping

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
BROADCAST = 0xFE
MODEL, MIN_LIMIT, MAX_LIMIT, TORQUE, GOAL, PRESENT = 3, 9, 11, 40, 42, 56
STS3215 = 777


class ServoBus:
    """Servos that are where they were last told to be, while they have torque; a context manager.

    Args:
        ranges: id -> its limits of position [steps]; it begins in their middle.
    """

    def __init__(self, ranges: Mapping[int, tuple[int, int]]) -> None:
        self.memory = {number: bytearray(256) for number in ranges}
        for number, (low, high) in ranges.items():
            self.memory[number][0:2] = bytes([3, 10])  # firmware
            for address, value in ((MODEL, STS3215), (MIN_LIMIT, low), (MAX_LIMIT, high), (PRESENT, (low + high) // 2)):
                self.set(number, address, value)
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._ending, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ServoBus":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def set(self, number: int, address: int, value: int) -> None:
        self.memory[number][address : address + 2] = value.to_bytes(2, "little")

    def get(self, number: int, address: int) -> int:
        return int.from_bytes(self.memory[number][address : address + 2], "little")

    def unplug(self) -> None:
        """What pulling the cable does to the port."""
        if self._thread.is_alive():
            os.write(self._end, b"x")
            self._thread.join()
            for descriptor in (self._ours, self._theirs, self._ending, self._end):
                os.close(descriptor)

    def _run(self) -> None:
        waiting = b""
        while True:
            ready, _, _ = select.select([self._ours, self._ending], [], [])
            if self._ending in ready:
                return
            waiting += os.read(self._ours, 512)
            while len(waiting) >= 4 and len(waiting) >= 4 + waiting[3]:
                packet, waiting = waiting[: 4 + waiting[3]], waiting[4 + waiting[3] :]
                assert packet[:2] == b"\xff\xff" and packet[-1] == ~sum(packet[2:-1]) & 0xFF
                self._obey(packet[2], packet[4], packet[5:-1])

    def _obey(self, number: int, instruction: int, parameters: bytes) -> None:
        if instruction == SYNC_READ:
            for one in parameters[2:]:
                self._answer(one, self.memory[one][parameters[0] : parameters[0] + parameters[1]])
        elif instruction == SYNC_WRITE:
            size = parameters[1]
            for at in range(2, len(parameters), size + 1):
                self._write(parameters[at], parameters[0], parameters[at + 1 : at + 1 + size])
        elif number in self.memory and instruction == READ:
            self._answer(number, self.memory[number][parameters[0] : parameters[0] + parameters[1]])
        elif number in self.memory and instruction == WRITE:
            self._write(number, parameters[0], parameters[1:])
            self._answer(number, b"")
        elif number in self.memory and instruction == PING:
            self._answer(number, b"")

    def _write(self, number: int, address: int, data: bytes) -> None:
        self.memory[number][address : address + len(data)] = data
        if address == GOAL and self.memory[number][TORQUE]:
            self.set(number, PRESENT, self.get(number, GOAL))

    def _answer(self, number: int, data: bytes) -> None:
        body = bytes([number, len(data) + 2, 0, *data])
        os.write(self._ours, b"\xff\xff" + body + bytes([~sum(body) & 0xFF]))

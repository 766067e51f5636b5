"""Who drives the arm: the policy, or a person who has taken over (as in HG-DAgger, Kelly et al., arXiv 1810.02890).

A person takes over by speaking: by the first target of the teleoperation device. From then on the policy is not heard. When the
person falls silent the arm holds; the policy goes on only when it stands still, and only after it was handed back.
"""

import enum
from dataclasses import dataclass

from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.safety import GuardReason, StreamAge


class Driver(enum.StrEnum):
    """Who moves an arm."""

    POLICY = "policy"  # speaks chunks, shows by heartbeats that it is alive
    TELEOP = "teleop"  # speaks single targets


@dataclass(frozen=True)
class SeatSettings:
    """Rules of driving.

    Attributes:
        owner: who drives from the start.
        takeover: whether a person may take over from the policy.
        heartbeat_timeout_ns: longest silence of the policy [ns].
        inference_ns: longest time of one inference [ns]: that of the actions that are executed meanwhile in any case.
        teleop_timeout_ns: age at which a target of a person has expired [ns].
        hand_back_ns: silence of the person after which the policy drives again [ns]; None: only when it is handed back.
    """

    owner: Driver
    takeover: bool
    heartbeat_timeout_ns: int
    inference_ns: int
    teleop_timeout_ns: int
    hand_back_ns: int | None = None

    def __post_init__(self) -> None:
        if self.takeover and self.owner is Driver.TELEOP:
            raise ValueError("a person cannot take over from teleoperation: takeover needs the policy as source")
        if self.hand_back_ns is not None and self.hand_back_ns <= self.teleop_timeout_ns:
            raise ValueError("the silence after which the policy goes on must be longer than the one after which the arm holds")


class DriverSeat:
    """Remembers who drives and when each was heard last. All times by the two clocks, see ``safety.StreamAge``."""

    def __init__(self, settings: SeatSettings) -> None:
        self.settings = settings
        self.driver = settings.owner
        self._heartbeat: tuple[int, int] | None = None  # stamp, receipt [ns]
        self._inferring: tuple[int, int] | None = None  # stamp, receipt of the first heartbeat of an inference [ns]
        self._person_ns = 0  # receipt of the person's last target [ns of the steady clock]
        self._returning = False

    @property
    def intervenes(self) -> bool:
        """Whether a person has taken over."""
        return self.driver is not self.settings.owner

    def heartbeat(self, stamp_ns: int, received_ns: int, inferring: bool) -> None:
        """The policy is alive; while it infers that is not said by its worker, which may hang."""
        self._heartbeat = (stamp_ns, received_ns)
        self._inferring = (self._inferring or self._heartbeat) if inferring else None

    def admits(self, speaker: Driver, received_ns: int) -> bool:
        """Whether to listen to a chunk or target of ``speaker``; a person takes over by this."""
        if speaker is Driver.TELEOP:
            self._person_ns = received_ns
            self._returning = False
            if self.settings.takeover:
                self.driver = Driver.TELEOP
        return speaker is self.driver

    def hand_back(self) -> None:
        """Let the policy drive again, once the arm stands still and the person has fallen silent."""
        self._returning = self.intervenes

    def settle(self, at_rest: bool, steady_ns: int) -> bool:
        """Whether the policy drives again from now on; to be asked at every tick."""
        if not self.intervenes or not at_rest:
            return False
        silent_ns, after_ns = steady_ns - self._person_ns, self.settings.hand_back_ns
        returning = self._returning and silent_ns > self.settings.teleop_timeout_ns
        if not returning and (after_ns is None or silent_ns <= after_ns):
            return False
        self._returning = False
        self.driver = self.settings.owner
        return True

    def reset(self) -> None:
        """The owner drives, as at the start."""
        self.driver, self._returning = self.settings.owner, False

    def ages(self, waiting: ChunkBuffer) -> tuple[StreamAge, ...]:
        """How long the driver has been silent, and its inference runs; ``waiting`` holds what a person said last."""
        if self.driver is Driver.TELEOP:
            return (_silence("teleop", (waiting.stamp_ns, waiting.received_ns), self.settings.teleop_timeout_ns),)
        timeout_ns = self.settings.heartbeat_timeout_ns
        silence = _silence("policy", self._heartbeat or (None, None), timeout_ns)
        if self._inferring is None:
            return (silence,)
        return (silence, _silence("policy's inference", self._inferring, max(timeout_ns, self.settings.inference_ns)))


def _silence(name: str, heard: tuple[int | None, int | None], limit_ns: int) -> StreamAge:
    return StreamAge(name, *heard, limit_ns, GuardReason.SOURCE_SILENT)

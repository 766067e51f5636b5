"""Whether this machine's clock is kept by somebody (NTP, PTP)."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

from robot_stack.doctor.finding import Findings, fail, ok, warn

UNSYNCHRONISED = 0x40  # STA_UNSYNC of linux/timex.h
LARGEST_ERROR_US = 1_000_000  # by the kernel's own bound, which grows until the next correction


@dataclass(frozen=True)
class KernelClock:
    """What the kernel says about its clock.

    Attributes:
        status: bits of linux/timex.h.
        largest_error_us: bound of its error [us].
    """

    status: int
    largest_error_us: int


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "frequency", "largest_error", "estimated_error")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


def kernel_clock() -> KernelClock:
    """Ask the kernel, without changing anything."""
    answer = _Timex()
    ctypes.CDLL(None).adjtimex(ctypes.byref(answer))
    return KernelClock(answer.status, answer.largest_error)


def clock(state: KernelClock, variables: Mapping[str, str]) -> Findings:
    """A clock that nobody keeps drifts by milliseconds a minute, which matters as soon as a second machine stamps messages."""
    remedy = "apt install chrony; with two machines let one be the other's server (README, two PCs)"
    if state.status & UNSYNCHRONISED:
        problem = "nobody keeps this machine's clock (no NTP or PTP)"
        yield fail("clock", problem, remedy) if variables.get("ROS_STATIC_PEERS") else warn("clock", problem, remedy)
    elif state.largest_error_us > LARGEST_ERROR_US:
        yield warn("clock", f"kept, but off by up to {state.largest_error_us / 1e6:.1f} s", remedy)
    else:
        yield ok("clock", f"kept, off by at most {state.largest_error_us / 1e3:.0f} ms by the kernel's bound")

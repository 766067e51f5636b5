"""What a check has found."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How bad it is: FAIL, it will not work; warn, it may not work well."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        level: see ``Level``.
        check: which part was looked at ("disk", "camera front").
        message: what was found.
        remedy: what to do about it; "" where all is well.
    """

    level: Level
    check: str
    message: str
    remedy: str = ""

    def line(self) -> str:
        """For people."""
        remedy = f"\n{'':6}-> {self.remedy}" if self.remedy else ""
        return f"{self.level:<5} {self.check}: {self.message}{remedy}"


Findings = Iterator[Finding]


def ok(check: str, message: str) -> Finding:
    return Finding(Level.OK, check, message)


def warn(check: str, message: str, remedy: str) -> Finding:
    return Finding(Level.WARN, check, message, remedy)


def fail(check: str, message: str, remedy: str) -> Finding:
    return Finding(Level.FAIL, check, message, remedy)

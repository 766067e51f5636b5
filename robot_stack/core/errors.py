"""One root exception; its children take facts, build the message and list the valid options."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class ProphRLError(Exception):
    """Root of every error that this project raises for bad input or a bad environment."""


class UnknownNameError(ProphRLError):
    """A name that is not among the valid ones.

    Args:
        kind: what was named, in words ("task", "robot", "camera").
        name: the name that was given.
        valid: the names that would have been accepted.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.valid = tuple(sorted(valid))
        near = difflib.get_close_matches(name, self.valid, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}; valid: {', '.join(self.valid) or '(none)'}{guess}")


class BadFileError(ProphRLError):
    """A file that cannot be used as it is.

    Args:
        path: the file.
        problem: what is wrong with it and what was expected instead.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {problem}")


class SpecMismatchError(ProphRLError):
    """Two descriptions that have to agree (robot file, manifest, dataset, live topics) do not.

    Args:
        ours: name of the first description.
        theirs: name of the second description.
        differences: one line for each difference, naming both sides.
    """

    def __init__(self, ours: str, theirs: str, differences: Iterable[str]) -> None:
        self.differences = tuple(differences)
        listed = "".join(f"\n  - {line}" for line in self.differences)
        super().__init__(f"{ours} does not fit {theirs}:{listed}")


class ShapeError(ProphRLError):
    """An array of the wrong shape.

    Args:
        what: what the array holds.
        got: its shape.
        expected: the shape in words or symbols, e.g. "[H, 4]".
    """

    def __init__(self, what: str, got: tuple[int, ...], expected: str) -> None:
        super().__init__(f"{what} has shape {list(got)}, expected {expected}")


class CameraError(ProphRLError):
    """A camera that cannot be opened, gives something else than was asked for, or has gone silent.

    Args:
        camera: which, as a person would name it (serial number, device, file).
        problem: what is wrong and what was expected or can be done.
    """

    def __init__(self, camera: object, problem: str) -> None:
        super().__init__(f"camera {camera}: {problem}")


class MissingDependencyError(ProphRLError):
    """A package or system library that an optional part needs is not installed.

    Args:
        what: the package or library.
        needed_for: the part that needs it.
        remedy: the command that installs it.
    """

    def __init__(self, what: str, needed_for: str, remedy: str) -> None:
        super().__init__(f"{what} is not available, but {needed_for} needs it. To install: {remedy}")

"""What can go wrong with episodes, beyond a broken file (``core.errors.BadFileError``)."""

from pathlib import Path

from robot_stack.core.errors import ProphRLError


class DiskFullError(ProphRLError):
    """No room for the episode.

    Args:
        folder: where it was to be written.
        free_bytes: what is free there.
        needed_bytes: what has to be free before an episode begins; None where a write failed.
    """

    def __init__(self, folder: Path, free_bytes: int, needed_bytes: int | None = None) -> None:
        wanted = f", {needed_bytes / 1e6:.0f} MB are needed to begin an episode" if needed_bytes else ""
        super().__init__(
            f"disk full: {free_bytes / 1e6:.0f} MB free in {folder}{wanted}. Finished episodes are intact; free some space, "
            "then close a cut episode with: prophrl episodes repair"
        )


class EpisodeInUseError(ProphRLError):
    """The log is still being written.

    Args:
        path: the log.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is being recorded by another process; wait for it to finish, or stop that process")

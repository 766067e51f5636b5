"""Tasks that no shipped weight may have seen: the demo's and those kept for evaluation, with their variants."""

from collections.abc import Iterable

from robot_stack.core.errors import ProphRLError

HELD_OUT_FAMILIES = (
    "button-press",  # the demo: button-press, -topdown, -wall, -topdown-wall
    "coffee",
    "lever-pull",
    "soccer",
    "door-lock",
    "door-unlock",  # the same scene as door-lock, turned the other way
    "push",  # push, push-back, push-wall
    "handle-pull",
    "handle-press",  # the same scene as handle-pull
)


class HeldOutTaskError(ProphRLError):
    """Data of a held-out task were offered for weights that are to be shipped."""

    def __init__(self, tasks: Iterable[str]) -> None:
        self.tasks = tuple(sorted(set(tasks)))
        super().__init__(
            f"held-out tasks must not enter shipped weights: {', '.join(self.tasks)}; "
            f"families kept apart: {', '.join(HELD_OUT_FAMILIES)}"
        )


def is_held_out(task: str) -> bool:
    """Whether ``task`` (e.g. ``push-wall-v3``) belongs to a held-out family."""
    name = task.removesuffix("-v3")
    return any(name == family or name.startswith(f"{family}-") for family in HELD_OUT_FAMILIES)


def refuse_held_out(tasks: Iterable[str]) -> None:
    """Raise ``HeldOutTaskError`` if any of ``tasks`` is held out, or unnamed: what cannot be told apart cannot be trusted."""
    offending = [task or "(no task name)" for task in tasks if not task or is_held_out(task)]
    if offending:
        raise HeldOutTaskError(offending)

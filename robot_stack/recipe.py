"""What a run of the closed loop collects and with which settings it learns: ``config/loop/<name>.yaml``, checked on load."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError


@dataclass(frozen=True)
class Recipe:
    """Budgets of the closed loop.

    Attributes:
        task, robot: names in config/task and config/robot.
        demonstrations: episodes of the expert, the only ones that the first policy sees.
        exploration: (behaviour, episodes): episodes that no policy made, for the first world model.
        sft_rollouts: (noise, episodes): episodes of the first policy.
        refresh: of each further round, (noise, episodes): episodes of the policy that practised in the round before.
        held_out: episodes on which the world model is measured and never trained.
        deploy_episodes: run through ROS and ONNX for the first and for the last policy each.
        settings: overrides of learning stages: by command ("export"), by stage ("export-rl"), or by either and the round
            ("adapt@1").
        everywhere: overrides of every learning stage, applied last.
    """

    task: str
    robot: str
    demonstrations: int
    exploration: tuple[tuple[str, int], ...]
    sft_rollouts: tuple[tuple[float, int], ...]
    refresh: tuple[tuple[tuple[float, int], ...], ...]
    held_out: int
    deploy_episodes: int
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    everywhere: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path, name_or_path: str) -> Self:
        """Read the recipe of that name in ``folder``, or the file at that path.

        Raises:
            UnknownNameError: no recipe of that name.
            BadFileError: the file is not a recipe; names the entry and what was expected.
        """
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = folder / f"{name_or_path}.yaml"
            if not path.is_file():
                raise UnknownNameError("recipe", name_or_path, (file.stem for file in folder.glob("*.yaml")))
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise BadFileError(path, f"cannot be read as YAML: {error}") from error
        return cls._from_mapping(raw, path)

    @classmethod
    def _from_mapping(cls, raw: Any, path: Path) -> Self:
        names = {entry.name for entry in dataclasses.fields(cls)}
        if not isinstance(raw, dict) or set(raw) - names or (names - {"settings", "everywhere"}) - set(raw):
            raise BadFileError(path, f"a recipe has the entries {', '.join(sorted(names))}; got {raw and sorted(raw)}")
        try:
            return cls(
                task=str(raw["task"]),
                robot=str(raw["robot"]),
                demonstrations=_count(raw["demonstrations"]),
                exploration=tuple((str(behaviour), _count(number)) for behaviour, number in raw["exploration"].items()),
                sft_rollouts=_rollouts(raw["sft_rollouts"]),
                refresh=tuple(_rollouts(entry) for entry in raw["refresh"]),
                held_out=_count(raw["held_out"]),
                deploy_episodes=_count(raw["deploy_episodes"]),
                settings={str(stage): tuple(map(str, entries)) for stage, entries in (raw.get("settings") or {}).items()},
                everywhere=tuple(map(str, raw.get("everywhere") or ())),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise BadFileError(path, f"an entry is not of the expected form: {error}") from error

    def with_overrides(self, task: str | None, robot: str | None, everywhere: list[str]) -> Self:
        """The recipe for another task or robot, or with settings for every learning stage that knows them."""
        robot = robot or self.robot
        robot = os.fspath(Path(robot).resolve()) if robot.endswith((".yaml", ".yml")) else robot
        return dataclasses.replace(self, task=task or self.task, robot=robot, everywhere=(*self.everywhere, *everywhere))

    def overrides(self, command: str, stage: str, round_index: int) -> tuple[str, ...]:
        """Overrides of one stage, the more special after the more general."""
        keys = dict.fromkeys((command, f"{command}@{round_index}", stage, f"{stage}@{round_index}"))
        return (*(entry for key in keys for entry in self.settings.get(key, ())), *self.everywhere)


def _rollouts(raw: Any) -> tuple[tuple[float, int], ...]:
    return tuple((float(noise), _count(number)) for noise, number in raw.items())


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} must be a whole number of at least 1")
    return value

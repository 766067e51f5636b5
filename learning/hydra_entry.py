"""The edge between the command line and plain settings: only entry functions of stages call this.

``compose`` turns overrides (``rl.lr=1e-4 task=push-v3``) into one configuration and lists the valid choices when one is wrong;
``build`` turns a group of it into the frozen dataclass that its ``_target_`` names, with checked types.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from learning.data_sources import Dataset, Source, load_sources, paths_of
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.paths import config_dir, robot_file
from robot_stack.run_dir import stage_dir

ROOT = "prophrl"
DATA, EPISODES, MIXTURE = "data", "episodes", "mixture"
FOLDERS_OF_EPISODES = (EPISODES, "npz_clips")  # kinds of data that ``episode_store.load_all`` reads
ANY_TASK = "metaworld"  # config/task file of the tasks that have none of their own
TASK_NAMES = "robot_stack.drivers.sim_metaworld.task_names"  # by name, like every `_target_` of the configuration


def compose(argv: Sequence[str], stage: str) -> DictConfig:
    """The configuration of ``stage`` with the overrides ``argv`` in Hydra's grammar.

    ``out`` is filled in: the folder given, or the stage's folder in the run.

    Raises:
        UnknownNameError: an override names a group option or a setting that does not exist; lists the valid ones.
        ProphRLError: an override is not of the form key=value, its value does not fit, or a mandatory one is missing.
        SystemExit: after printing the configuration, when ``argv`` holds ``--help``.
    """
    wants_help = any(argument in ("-h", "--help") for argument in argv)
    overrides = _parse([argument for argument in argv if argument not in ("-h", "--help")])
    robots = [str(override.value()) for override in overrides if override.key_or_group == "robot"]
    chosen = [override for override in overrides if _is_group(override)]
    values = [override for override in overrides if not _is_group(override) and override.key_or_group != "robot"]
    groups = [text for override in chosen for text in _group_override(override)]
    with initialize_config_dir(config_dir=str(config_dir()), job_name=stage, version_base="1.3"):
        _check_keys(_composed(groups), values)
        config = _composed(groups + [str(override.input_line) for override in values])
    if robots:  # a robot file is one set of facts, taken whole: hence a name, not a group whose entries could be overridden
        config.robot = robots[-1]
    robot_file(config.robot)
    if config.out is None:
        config.out = str(stage_dir(config.run.dir, config.run.round, stage))
    if wants_help:
        print(_help(config, stage))
        raise SystemExit(0)
    if missing := OmegaConf.missing_keys(config):
        raise ProphRLError(f"{stage} needs a value for {', '.join(sorted(missing))}: give {min(missing)}=...")
    return config


def resolved(argv: Sequence[str], stage: str) -> Any:
    """Every setting of ``stage`` as plain data, for manifests."""
    return OmegaConf.to_container(compose(argv, stage), resolve=True)


def build(node: DictConfig, **extra: Any) -> Any:
    """The settings that ``node`` describes: an object of the class that ``_target_`` names, holding plain values only.

    Args:
        node: a group of the configuration.
        extra: further arguments, which replace those of the configuration.

    Raises:
        ProphRLError: a value is missing or of the wrong type; names it and what was expected.
    """
    try:
        return _typed(instantiate(node, _convert_="all", **extra))
    except (HydraException, OmegaConfBaseException) as error:
        raise ProphRLError(f"settings of {node._get_full_key(None)}: {_cause(error)}") from error


def robot_spec(config: DictConfig) -> RobotSpec:
    """The robot that the configuration names."""
    return RobotSpec.load(robot_file(config.robot))


def data_paths(config: DictConfig) -> list[Path]:
    """The folders of episodes that ``data`` names: none, one or several; for stages that need nothing else.

    Raises:
        ProphRLError: ``data`` is of a kind that folders alone do not describe.
    """
    kind = _data_kind(config.data)
    if kind not in FOLDERS_OF_EPISODES:
        valid = " or ".join(f"data={name}" for name in FOLDERS_OF_EPISODES)
        raise ProphRLError(f"this stage does not read data={kind}, only data=<folder> ({valid}) of episodes of the robot")
    return paths_of(config.data.path or ())


def load_data(config: DictConfig, least_frames: int = 1) -> list[Dataset]:
    """The episodes that ``data`` names, whatever their kind; none where it names none.

    Args:
        config: of the stage.
        least_frames: episodes with fewer frames are named and left out.

    Raises:
        ProphRLError: a source is not what it should be, or has no usable episode; single broken episodes are only left out.
    """
    if "sources" not in config.data and config.data.path is None:
        return []
    return load_sources(_sources(config.data), robot_spec(config), least_frames)


def _sources(node: DictConfig) -> list[Source]:
    if "sources" not in node:
        return [build(node)]
    sources: Any = node.sources
    if isinstance(sources, str):
        try:
            sources = OmegaConf.create(yaml.safe_load(Path(sources).read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise BadFileError(node.sources, f"cannot be read as YAML: {error}") from error
    if not isinstance(sources, ListConfig) or not sources:
        raise ProphRLError(f"data.sources must be a list of sources, each with kind and path, got {sources!r}")
    return [build(_source_of_mixture(entry, number)) for number, entry in enumerate(sources)]


def _source_of_mixture(entry: Any, number: int) -> DictConfig:
    """The settings of an entry upon those of its kind."""
    where = f"data.sources[{number}]"
    kinds = sorted({file.stem for file in (config_dir() / DATA).glob("*.yaml")} - {MIXTURE})
    if not isinstance(entry, DictConfig) or "kind" not in entry:
        raise ProphRLError(f"{where} must tell its kind ({', '.join(kinds)}) and its path, got {entry!r}")
    if entry.kind not in kinds:
        raise UnknownNameError(f"kind of {where}", str(entry.kind), kinds)
    known = OmegaConf.load(config_dir() / DATA / f"{entry.kind}.yaml")
    assert isinstance(known, DictConfig)
    given = {str(key): value for key, value in entry.items() if key != "kind"}
    for key in given:
        if key not in known.keys():  # noqa: SIM118 - `in` alone denies mandatory settings
            raise UnknownNameError(f"setting in {where}", key, [str(name) for name in known if name != "_target_"])
    merged = OmegaConf.merge(known, given)
    assert isinstance(merged, DictConfig)
    if OmegaConf.is_missing(merged, "path") or merged.path is None:
        raise ProphRLError(f"{where} ({entry.kind}) needs a path")
    return merged


def _data_kind(node: DictConfig) -> str:
    """Which file of ``config/data`` a configuration was made from."""
    target = node.get("_target_")
    files = (config_dir() / DATA).glob("*.yaml")
    return next(file.stem for file in files if OmegaConf.select(OmegaConf.load(file), "_target_") == target)


def _parse(argv: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(argv))
    except HydraException as error:
        raise ProphRLError(f"cannot read the overrides {list(argv)}: expected key=value. {error}") from error


def _is_group(override: Override) -> bool:
    return override.key_or_group != "robot" and (config_dir() / override.key_or_group).is_dir()


def _group_override(override: Override) -> list[str]:
    """The override as Hydra takes it.

    A Meta-World task without a file of its own becomes the general file and a name; folders of data become the kind that
    recognises them.
    """
    group, option = override.key_or_group, str(override.value())
    valid = [file.stem for file in (config_dir() / group).glob("*.yaml")]
    if option in valid:
        return [f"{group}={option}"]
    if group == DATA:
        folders = str(override.input_line).partition("=")[2]
        return [f"{DATA}={EPISODES}"] if override.value() is None else [f"{DATA}={EPISODES}", f"{DATA}.path={folders}"]
    if group == "task":
        tasks = _simulated_tasks()
        if option in tasks or (not tasks and option.endswith("-v3")):
            return [f"task={ANY_TASK}", f"task.name={option}"]
        valid += [task for task in tasks if task not in valid]
    raise UnknownNameError(group, option, valid)


def _simulated_tasks() -> list[str]:
    """Names of all tasks; none where the simulator is not installed."""
    try:
        return list(get_method(TASK_NAMES)())
    except ProphRLError:
        return []


def _check_keys(config: DictConfig, overrides: Sequence[Override]) -> None:
    """Refuse an override of a setting that does not exist; Hydra's own message does not name the ones that do."""
    for override in overrides:
        if override.is_add() or override.is_force_add():
            continue
        node: Any = config
        parts = override.key_or_group.split(".")
        for depth, part in enumerate(parts):
            if not isinstance(node, DictConfig) or part not in node.keys():  # noqa: SIM118 - `in` alone denies mandatory settings
                where = ".".join(parts[:depth])
                valid = [str(key) for key in node if key != "_target_"] if isinstance(node, DictConfig) else []
                raise UnknownNameError(f"setting in {where}" if where else "setting", part, valid)
            node = node._get_node(part)


def _composed(overrides: list[str]) -> DictConfig:
    try:
        return hydra_compose(ROOT, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ProphRLError(f"configuration with {overrides or 'no overrides'}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The innermost message: the outer ones only repeat that something failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0]


def _typed(settings: Any) -> Any:
    """``settings`` with lists made tuples where the dataclass says so, after checking the plain fields' types."""
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    hints = typing.get_type_hints(type(settings))
    changed: dict[str, Any] = {}
    for entry in dataclasses.fields(settings):
        value, hint = getattr(settings, entry.name), hints[entry.name]
        if isinstance(value, list) and any(typing.get_origin(option) is tuple for option in _options(hint)):
            changed[entry.name] = tuple(value)
        elif not _fits(value, hint):
            expected = getattr(hint, "__name__", str(hint))
            raise ProphRLError(f"{type(settings).__name__}.{entry.name} must be {expected}, got {value!r}")
    return dataclasses.replace(settings, **changed) if changed else settings


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is one of the plain types that ``hint`` allows; other hints are the class's own business."""
    options = _options(hint)
    if not set(options) <= {int, float, bool, str, type(None)}:
        return True
    if isinstance(value, int) and not isinstance(value, bool) and float in options:
        return True
    return type(value) in options


def _help(config: DictConfig, stage: str) -> str:
    folders = sorted(folder for folder in config_dir().iterdir() if folder.is_dir() and folder.name in config)
    groups = "\n".join(f"  {folder.name}: {', '.join(sorted(f.stem for f in folder.glob('*.yaml')))}" for folder in folders)
    return (
        f"usage: prophrl {stage} [key=value ...]\n\nChoices (group=option; any Meta-World task: task=<name>-v3):\n{groups}\n"
        "data=<folder> and data=[<folder>,...] are short for data=episodes data.path=...; where a folder is called like a\n"
        "choice, the choice is meant: write ./<folder> for the folder.\n\n"
        f"Settings (key=value) as they are now:\n{OmegaConf.to_yaml(config)}"
    )

"""What the entry functions of this package read from the configuration; nothing else sees Hydra."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from learning.fitting import training_device
from learning.hydra_entry import build, data_paths, robot_spec
from policy import checkpoint
from policy.flow_policy import FlowPolicy
from rl.practice import (
    RESETS,
    SIMULATOR,
    Practice,
    PracticeSettings,
    in_imagination,
    in_simulator,
    starts_from_episodes,
    starts_from_resets,
)
from rl.trials import Trials
from robot_stack.core.errors import ProphRLError
from robot_stack.run_dir import stage_dir
from world_model.checkpoint import Prophet
from world_model.imagination import StartContext

# Checkpoints and the stages of the run that write them.
STAGES = {"policy": "train-policy", "world_model": "adapt", "judge": "train-judge"}


def checkpoint_folder(config: DictConfig, name: str) -> Path:
    """The folder ``checkpoint.<name>``, or where the run's own stage writes it.

    Raises:
        ProphRLError: neither is there.
    """
    given = config.checkpoint[name]
    if given is not None:
        return Path(given)
    folder = stage_dir(config.run.dir, config.run.round, STAGES[name])
    if not folder.is_dir():
        raise ProphRLError(
            f"no {name.replace('_', ' ')}: {folder} is missing. Run `prophrl {STAGES[name]}` or give checkpoint.{name}=<folder>"
        )
    return folder


def start_policy(config: DictConfig) -> FlowPolicy:
    """The policy to try or to improve, checked against the robot; on a GPU where there is one."""
    torch.set_num_threads(config.threads)
    return checkpoint.load(checkpoint_folder(config, "policy"), robot_spec(config), training_device())


def reference_policy(config: DictConfig) -> FlowPolicy | None:
    """The policy that KL is measured from, where another than the start policy is named."""
    given = config.checkpoint.reference
    return None if given is None else checkpoint.load(given, robot_spec(config), training_device())


def trials(config: DictConfig) -> Trials:
    """The true environment of the configured task."""
    task: Any = OmegaConf.to_container(config.task, resolve=True)
    return Trials(build(config.evaluation), robot_spec(config), task, config.seed)


def practice(config: DictConfig, settings: PracticeSettings, truth: Trials) -> Practice:
    """The place to practise that ``settings`` name."""
    if settings.where == SIMULATOR:
        return in_simulator(settings, truth)
    spec = robot_spec(config)

    def starts(prophet: Prophet) -> list[StartContext]:
        if settings.starts_from == RESETS:
            return starts_from_resets(truth, settings.starts)
        return starts_from_episodes(data_paths(config), prophet, spec, settings.starts, config.seed)

    folders = checkpoint_folder(config, "world_model"), checkpoint_folder(config, "judge")
    return in_imagination(*folders, starts, spec, build(config.world_model).sampler, settings)

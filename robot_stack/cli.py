"""`prophrl`: one command, one table of subcommands, each imported only when it is called.

Works where neither torch nor Hydra is installed, so that the robot PC has it too.
"""

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from robot_stack.core.errors import MissingDependencyError, ProphRLError, UnknownNameError

ABOUT = """\
ProphRL: make a robot's policy better by letting it practise inside a learned model of the robot's world.

The loop: record a few episodes on the robot, teach a first policy by imitation, adapt the world model Prophet to what the
robot logged, improve the policy in Prophet's imagination (FA-GRPO), export it to ONNX and put it back on the robot."""

FOOTER = """\
Learning stages take settings as key=value (`prophrl train-rl rl.lr=1e-4`), the robot's stages as --options;
`prophrl <command> --help` lists them. New here? `prophrl demo` runs everything on a simulated arm and writes a report."""


@dataclass(frozen=True)
class Command:
    """One line of the table.

    Attributes:
        entry: "module:function"; the function takes the arguments and returns the exit status.
        summary: what it does, for ``--help``.
        group: the heading it stands under.
    """

    entry: str
    summary: str
    group: str


ROBOT, EPISODES, LEARN, LOOP = "On the robot", "Recorded episodes", "Learning, in the order of the loop", "The whole loop"

COMMANDS: dict[str, Command] = {
    "demo": Command("robot_stack.loop:demo_main", "the whole loop on the simulated arm, with a report at the end", LOOP),
    "loop": Command("robot_stack.loop:main", "the whole loop by a recipe of one's own; resumes where it stopped", LOOP),
    "report": Command("robot_stack.report:main", "write report.html of a run", LOOP),
    "doctor": Command("robot_stack.doctor.command:main", "what is wrong with this machine, the devices and the files", ROBOT),
    "up": Command("robot_stack.operate:up_main", "start the robot's processes", ROBOT),
    "teleop": Command("robot_stack.operate:teleop_main", "drive the arm by keyboard or a scripted expert", ROBOT),
    "record": Command("robot_stack.operate:record_main", "record episodes of an expert, of noise or of a policy", ROBOT),
    "deploy": Command("robot_stack.operate:deploy_main", "run an exported policy and count its successes", ROBOT),
    "episodes": Command("robot_stack.episodes.commands:main", "list, label, show and repair recorded episodes", EPISODES),
    "convert": Command("robot_stack.episodes.to_lerobot:main", "turn recorded episodes into a LeRobot dataset", EPISODES),
    "train-policy": Command("policy.train:main", "teach the policy by imitation of recorded episodes", LEARN),
    "collect-pretraining": Command(
        "world_model.train:collect_main", "episodes of many tasks straight from the simulator", LEARN
    ),
    "pretrain-world-model": Command(
        "world_model.train:pretrain_main",
        "make the weights of Prophet that are shipped",
        LEARN,
    ),
    "train-world-model": Command("world_model.train:train_main", "train Prophet from nothing, or from a base model", LEARN),
    "adapt": Command("world_model.train:adapt_main", "adapt Prophet to the episodes of this robot", LEARN),
    "evaluate-world-model": Command("world_model.evaluate:main", "compare imagined with real video", LEARN),
    "train-judge": Command("world_model.judge_train:main", "teach the judge of success on real and imagined video", LEARN),
    "train-rl": Command("rl.train:main", "improve the policy in Prophet's imagination (FA-GRPO)", LEARN),
    "filtered-bc": Command("rl.filtered_bc:main", "the baseline: imitate one's own successes", LEARN),
    "evaluate": Command("rl.evaluation:main", "success of policies in the true simulator", LEARN),
    "export": Command("policy.export:main", "write a policy as ONNX with a manifest, checked against torch", LEARN),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status: 0 done, 2 for bad input or a bad environment, 130 after ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)  # says at every start that it is not installed
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = arguments
    try:
        return run(name, rest)
    except ProphRLError as error:
        return _refuse(str(error))
    except OSError as error:
        if error.strerror is None:
            raise
        return _refuse(f"{error.strerror}{f': {error.filename}' if error.filename else ''}{_remedy(error)}")
    except KeyboardInterrupt:
        return _refuse("stopped; the same command continues from the last finished step", status=130)


def run(name: str, arguments: Sequence[str]) -> int:
    """Import and call the subcommand ``name``.

    Raises:
        UnknownNameError: no such command; lists the valid ones.
        MissingDependencyError: the command needs an extra that is not installed.
    """
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS)
    command = COMMANDS[name]
    module, function = command.entry.split(":")
    try:
        entry = getattr(importlib.import_module(module), function)
        return int(entry(list(arguments)) or 0)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = extra_of(package)
        if extra is None:
            raise
        raise MissingDependencyError(package, f"prophrl {name}", f"pip install 'robot_stack[{extra}]'") from error


# Which extra brings a package that is imported under this name.
EXTRA_OF = {
    "train": "accelerate av datasets diffusers hydra lerobot omegaconf onnx onnxscript pandas peft pyarrow safetensors "
    "sentence_transformers tensorboard tokenizers torch torchvision transformers",
    "sim": "gymnasium metaworld mujoco",
    "cpu": "onnxruntime",
    "realsense": "pyrealsense2",
    "ros": "rclpy builtin_interfaces diagnostic_msgs geometry_msgs rosgraph_msgs sensor_msgs std_msgs std_srvs trajectory_msgs "
    "rcl_interfaces lifecycle_msgs",
}


def extra_of(package: str) -> str | None:
    """The pip extra that brings ``package``, or None where it is not one of ours to bring."""
    return next((extra for extra, packages in EXTRA_OF.items() if package in packages.split()), None)


def overview() -> str:
    """What ``prophrl --help`` prints."""
    lines = [ABOUT, "", "usage: prophrl <command> [...]"]
    width = max(map(len, COMMANDS))
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items() if entry.group == group]
    return "\n".join([*lines, "", FOOTER])


def _refuse(message: str, status: int = 2) -> int:
    if os.environ.get("PROPHRL_DEBUG") == "1":
        traceback.print_exc()
    print(f"prophrl: {message}", file=sys.stderr)
    return status


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ". Free some space and run the same command again: everything finished is kept"
    return ""


if __name__ == "__main__":
    sys.exit(main())

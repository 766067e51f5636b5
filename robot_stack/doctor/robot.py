"""The robot's files: robot, cell, model, the vendor's limits; and a policy for it."""

import importlib.metadata
import time
from pathlib import Path

from robot_stack.bringup import Robot, Setup
from robot_stack.core.errors import ProphRLError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor.finding import Findings, fail, ok, warn
from robot_stack.doctor.vendor import beyond, limits_for
from robot_stack.drivers.arm_model import tool_kinematics
from robot_stack.drivers.arm_workspace import penetration_of
from robot_stack.paths import config_dir
from robot_stack.ros.policies import PolicyAddress, address_of

CUDA = "CUDAExecutionProvider"
BOTH = ("onnxruntime", "onnxruntime-gpu")
ARRIVES = 0.5  # periods of the command lead that are used up before a trajectory leaves (core.trajectory_stream)


def limits(spec: RobotSpec) -> Findings:
    """The vendor's limits."""
    folder = config_dir() / "vendor"
    problems = beyond(spec, folder)
    for problem in problems:
        yield fail("limits", problem, "stay within: lower it in the robot file")
    if problems:
        return
    if limits_for(spec.model, folder):
        yield ok("limits", "positions, velocities and accelerations are within the vendor's")
    elif spec.model:
        yield warn("limits", f"no vendor's limits are known for model {spec.model}", "compare by hand, enter config/vendor")


def model(spec: RobotSpec) -> Findings:
    """The model, with every joint and point that the robot file names."""
    if not spec.model:
        yield ok("model", "the robot file names none: only the limits of the actions count, and the driver tells ee_pose")
        return
    try:
        tool_kinematics(spec)
        penetration = penetration_of(spec)
    except ProphRLError as error:
        yield fail("model", str(error), "correct the robot file or the model")
        return
    if penetration is None:
        yield warn("model", f"{spec.model} is read, but there is no workspace", "enter one, or nothing guards the table")
    else:
        yield ok("model", f"{spec.model} has the tool, the joints and the points of the workspace")


def latency(robot: Robot) -> Findings:
    """Whether commands leave early enough for the delay of the arm's driver."""
    if robot.cell is None or not robot.cell.arm.latency_ms:
        return
    spec, late_ms = robot.spec, robot.cell.arm.latency_ms
    lead_ms = (spec.command_lead - ARRIVES) * spec.command_period_ns / 1e6
    if late_ms > lead_ms:
        problem = f"the arm is {late_ms:g} ms late, trajectories leave {lead_ms:g} ms ahead"
        yield warn("latency", problem, "raise command_lead in the robot file, or commands come too late")
    else:
        yield ok("latency", f"the arm is {late_ms:g} ms late, trajectories leave {lead_ms:g} ms ahead")


def load(name: str, cell: str) -> Robot:
    """The robot as it would be brought up.

    Raises:
        ProphRLError: see ``bringup.Robot``.
    """
    return Robot.of(Setup(robot=name, cell=cell))


def policy(folder: Path, spec: RobotSpec) -> Findings:
    """Whether an exported policy is whole, is for this robot, and runs on the provider that it seems to run on."""
    try:
        address = PolicyAddress.parse(address_of(str(folder)))
        policy_hash = address.check(spec)
    except ProphRLError as error:
        yield fail("policy", str(error), "export it anew for this robot (prophrl export), or name another folder")
        return
    yield ok("policy", f"{policy_hash[:12]} is whole and for robot {spec.name}")
    installed = [name for name in BOTH if _is_installed(name)]
    if len(installed) == 2:
        remedy = "pip uninstall both, then install one of them"
        yield fail("policy", f"{' and '.join(installed)} overwrite each other", remedy)
        return
    begin_s = time.monotonic()
    try:
        address.load(spec)
    except ProphRLError as error:
        yield fail("policy", str(error), "export it anew, or install what is missing")
        return
    yield ok("policy", f"loads and answers on the CPU, {time.monotonic() - begin_s:.1f} s with its warm-up")
    yield from cuda(next(iter(sorted(folder.glob("*.onnx")))))


def cuda(graph: Path) -> Findings:
    """Whether CUDA, where ONNX Runtime offers it, is what a session really gets: it falls back without a word."""
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return
    onnxruntime.set_default_logger_severity(4)  # what is missing is told below, once
    try:
        got = onnxruntime.InferenceSession(str(graph), providers=[CUDA, "CPUExecutionProvider"]).get_providers()
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
    if CUDA in got:
        yield ok("policy", "CUDA is there, too")
    else:
        remedy = "install the driver and the CUDA libraries of onnxruntime-gpu, or the cpu extra, which does not pretend"
        yield warn("policy", f"onnxruntime-gpu is installed, but gives {', '.join(got)}", remedy)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True

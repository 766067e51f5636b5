"""Findings about a running robot, from what ``ros.graph_check`` has seen of its topics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor.finding import Findings, fail, ok, warn

if TYPE_CHECKING:
    from robot_stack.ros.graph_check import TopicLook

SLOW = 0.95  # of the nominal rate
LATE_S = 0.2  # of a stamp on receipt: what the executor takes for too old
FUTURE_S = -0.005
FEW_HZ = 20.0  # joint states and poses
RECORDER = "recorder"  # hears commands, and moves nothing


def streams(looks: Sequence["TopicLook"], spec: RobotSpec) -> Findings:
    """Observation streams: one sender, the contract's type, reliable, fast, and with honest stamps."""
    for entry in looks:
        check = f"topic {entry.name}"
        if not entry.senders:
            yield fail(check, "nobody publishes it", "start the driver, or remap its topic to this name")
            continue
        if len(entry.senders) > 1 and entry.name != "joint_states":  # an arm and its gripper may share that one
            yield fail(check, f"is published by {', '.join(entry.senders)}", "stop all but one of them")
        if entry.types != (entry.wanted_type,):
            remedy = f"expected is {entry.wanted_type}: see compression in the robot file, or the driver's settings"
            yield fail(check, f"is of type {', '.join(entry.types)}", remedy)
            continue
        if entry.best_effort:
            remedy = "sensor_reliability: best_effort in config/ros for the nodes that read it, or a reliable driver"
            yield warn(
                check, f"{', '.join(entry.best_effort)} offers best effort only, reliable listeners never hear it", remedy
            )
        yield from _rate(entry, check, spec)
        yield from _stamps(entry, check)
        if entry.name == "joint_states":
            yield from _joints(entry, check, spec)


def commands(looks: Sequence["TopicLook"]) -> Findings:
    """Command topics: somebody listens, and at most one commands."""
    for entry in looks:
        check, driven = f"topic {entry.name}", [name for name in entry.listeners if name != RECORDER]
        if len(entry.senders) > 1:
            yield fail(check, f"is commanded by {', '.join(entry.senders)}", "stop all but one executor: it refuses to move")
        if not driven:
            yield fail(check, "nobody listens", "load and activate the controller that the robot file names (ros2 control)")
        elif len(entry.senders) <= 1:
            yield ok(check, f"heard by {', '.join(driven)}, commanded by {', '.join(entry.senders) or 'nobody'}")


def _rate(entry: "TopicLook", check: str, spec: RobotSpec) -> Findings:
    nominal = entry.nominal_hz or max(FEW_HZ, spec.rate_hz)
    told = f"{entry.rate_hz:.1f} Hz from {', '.join(entry.senders)}"
    if not entry.count:
        yield fail(check, "is published, but nothing comes", "look at the driver's output; a frozen camera falls silent")
    elif entry.rate_hz < SLOW * nominal:
        yield warn(check, f"{told}, expected {nominal:g}", "look at this machine's load, the plug, the driver's settings")
    else:
        yield ok(check, told)


def _stamps(entry: "TopicLook", check: str) -> Findings:
    skew = entry.skew_s
    if skew is None:
        return
    if skew < FUTURE_S or skew > LATE_S:
        when = f"{-skew * 1e3:.0f} ms in the future" if skew < 0 else f"{skew * 1e3:.0f} ms old on receipt"
        remedy = "keep the clocks of both machines together (chrony); no use_sim_time"
        yield fail(check, f"its stamps are {when}; the arm would not move", remedy)


def _joints(entry: "TopicLook", check: str, spec: RobotSpec) -> Findings:
    """Every joint of the arm, and what the state is made of beside the tool's pose."""
    commanded_by = {
        action: joint for command in spec.commands for action, joint in zip(command.actions, command.joints, strict=True)
    }
    needed = dict.fromkeys(spec.joint_names)
    poses = {name for tool in spec.tools for name in tool.pose_names}
    for name in spec.state_names:
        if name not in poses and name not in entry.joints:
            needed[commanded_by.get(name, name)] = None
    missing = [name for name in needed if name not in entry.joints]
    if entry.joints and missing:
        remedy = "correct the names in the robot file, or let the gripper's driver publish there, too"
        yield fail(check, f"lacks {', '.join(missing)}; it has {', '.join(sorted(entry.joints))}", remedy)

"""A recorded episode as a policy: every target once, wherever the executor is, and out of every rest."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robot_stack.core.control_loop import ControlLoop
from robot_stack.core.errors import SpecMismatchError
from robot_stack.core.execution import ExecutionMode, ExecutionSettings
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import Command, Observation
from robot_stack.episodes.replay import ReplayPolicy
from robot_stack.ros.policies import PolicyAddress, address_of
from tests.episodes.fake_robot import FakeEpisode, spec

SPEC = dataclasses.replace(spec(), max_chunk_age_ns=10**12)
REST = 30  # ticks of standing still, longer than a chunk


class Arm:
    brakes_itself = True

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []

    def start(self, reference: np.ndarray) -> None:
        """Nothing to begin."""

    def send(self, command: Command) -> None:
        self.sent.append(command.target)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A walk with a rest in it."""
    episode = FakeEpisode.random(20 + REST)
    walk = np.array([0.0, 0.6, 0.2, 0.5]) + np.array([0.01, 0.005, -0.002, 0.01]) * np.arange(20)[:, None]
    episode.sent = np.vstack([walk[:10], np.repeat(walk[9:10], REST, axis=0), walk[10:]])
    episode.wanted = episode.sent.copy()
    episode.commanded = np.vstack([walk[:1], episode.sent[:-1]])
    return episode.record(tmp_path)


def run(policy: ReplayPolicy, robot: RobotSpec, execution: ExecutionSettings, begin: np.ndarray, ticks: int) -> np.ndarray:
    """The policy through the executor's loop; where the arm was [1 + T, A]."""
    arm = Arm()
    loop = ControlLoop(robot, arm, tuple, execution=execution)
    loop.start(begin)

    def answer(now_ns: int) -> None:
        if loop.asks:
            committed = loop.committed
            observation = Observation(now_ns, {}, begin, committed[0])
            loop.buffer.push(policy.infer(observation, committed[1:1]), now_ns)

    for k in range(ticks):
        now_ns = k * robot.command_period_ns
        if robot.commands_per_action == 1:  # as the executor asks: before a tick, or after one that has begun a target
            answer(now_ns)
        tick = loop.tick(now_ns, now_ns)
        if robot.commands_per_action > 1 and (tick.requested is not None or tick.starved):
            answer(now_ns)
    return np.array([begin, *arm.sent])


@pytest.mark.parametrize("mode", [ExecutionMode.SYNCHRONOUS, ExecutionMode.ASYNCHRONOUS])
@pytest.mark.parametrize("faster", [1, 5])
def test_the_arm_goes_through_every_target_of_the_episode_in_order(log: Path, mode: ExecutionMode, faster: int) -> None:
    robot = dataclasses.replace(SPEC, command_rate_hz=faster * SPEC.rate_hz)
    policy = ReplayPolicy(log, robot)
    sent = run(policy, robot, ExecutionSettings(mode), policy.targets[0], 60 * faster + 20)
    np.testing.assert_allclose(sent[-1], policy.targets[-1], atol=1e-9)
    distances = np.linalg.norm(sent[:, None] - policy.targets[None], axis=2).min(axis=0)
    longest = np.linalg.norm(np.diff(sent, axis=0), axis=1).max()
    assert distances.max() <= longest / 2 + 1e-9
    assert (np.diff(sent[:, 0]) >= -5e-4).all()  # at its end it may brake a little late


def test_from_elsewhere_the_first_target_is_approached_and_nothing_is_left_out(log: Path) -> None:
    policy = ReplayPolicy(log, SPEC)
    begin = policy.targets[0] + np.array([-0.3, 0.0, 0.1, 0.0])
    sent = run(policy, SPEC, ExecutionSettings(), begin, 150)
    distances = np.linalg.norm(sent[:, None] - policy.targets[None], axis=2).min(axis=0)
    assert distances.max() < 1e-9
    steps = np.abs(np.diff(sent, axis=0))[:, :3]
    assert steps.max() <= SPEC.max_step[:3].max() + 1e-9


def test_a_committed_prefix_is_continued(log: Path) -> None:
    policy = ReplayPolicy(log, SPEC)
    observation = Observation(0, {}, policy.targets[0], policy.targets[2])
    chunk = policy.infer(observation, policy.targets[3:6])
    np.testing.assert_array_equal(chunk.targets[:6], policy.targets[3:9])


def test_an_episode_of_another_robot_is_refused(log: Path) -> None:
    other = dataclasses.replace(SPEC, name="other", rate_hz=10.0, command_rate_hz=10.0)
    with pytest.raises(SpecMismatchError, match=r"rate_hz: 20.0 there, 10.0 here"):
        ReplayPolicy(log, other)


def test_addresses(log: Path) -> None:
    assert address_of(f"replay:{log}") == f"replay:{log}" and address_of("exported") == "onnx:exported"
    assert isinstance(PolicyAddress.parse(f"replay:{log}").load(spec()), ReplayPolicy)

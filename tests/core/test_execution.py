"""Ways to execute chunks: when a new one is asked for, and how the arm moves over the seams, whatever an inference takes."""

import dataclasses
from collections import deque

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot_stack.core.chunk_buffer import EnsemblingBuffer
from robot_stack.core.control_loop import ControlLoop
from robot_stack.core.execution import ExecutionMode, ExecutionSettings
from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.types import ActionChunk, Command
from robot_stack.paths import robot_file

PERIOD_NS = 50_000_000
COMMAND_S = 0.01
X = np.array([1.0, 0.0, 0.0, 0.0])
HOME = np.array([-0.45, 0.6, 0.2, 1.0])
SIM = RobotSpec.load(robot_file("sim_metaworld"))
ARM = dataclasses.replace(
    SIM,
    command_rate_hz=100.0,
    max_chunk_age_ns=10**12,
    actions=tuple(dataclasses.replace(action, max_velocity=0.5, max_acceleration=4.0) for action in SIM.actions),
)
KINDS = SIM.action_kinds


def chunk(stamp_ns: int, targets: np.ndarray) -> ActionChunk:
    return ActionChunk(stamp_ns, PERIOD_NS, targets)


def test_ensembling_is_the_weighted_mean_of_what_the_chunks_say_about_a_step() -> None:
    """Three chunks, one step apart, each constant: the oldest weighs most (ACT's exp(-m i), i = 0 for the oldest)."""
    buffer = EnsemblingBuffer(KINDS, decay=0.5)
    weights = np.exp(-0.5 * np.arange(3))
    said = [np.tile(HOME + value * X, (4, 1)) for value in (0.1, 0.2, 0.4)]
    for step, targets in enumerate(said):
        buffer.push(chunk(step * PERIOD_NS, targets), 0)
        if step < 2:
            buffer.pop(step * PERIOD_NS)
    assert len(buffer) == 4  # the youngest has nothing done yet
    upcoming = buffer.upcoming
    expected = [weights @ [0.1, 0.2, 0.4] / weights.sum()] * 2  # the oldest has two left, the next three, the youngest four
    expected += [weights[:2] @ [0.2, 0.4] / weights[:2].sum(), 0.4]
    np.testing.assert_allclose(upcoming[:, 0], HOME[0] + np.array(expected))
    np.testing.assert_array_equal(upcoming, np.stack([buffer.pop((2 + k) * PERIOD_NS) for k in range(4)]))
    assert buffer.pop(9 * PERIOD_NS) is None


def test_ensembling_aligns_chunks_by_what_was_consumed() -> None:
    """Chunks that say the same path agree, so their mean is that path, however late they come."""
    buffer = EnsemblingBuffer(KINDS, decay=0.1)
    path = HOME + 0.01 * np.arange(1, 31)[:, None] * X
    pending: deque[tuple[int, ActionChunk]] = deque()
    for step in range(20):
        pending.append((step + 3, chunk(step * PERIOD_NS, path[step : step + 8])))
        if step == 0:
            buffer.push(pending.popleft()[1], 0)
        while pending and pending[0][0] <= step:
            buffer.push(pending.popleft()[1], 0)
        target = buffer.pop(step * PERIOD_NS)
        assert target is not None
        np.testing.assert_allclose(target, path[step], atol=1e-12)


def test_ensembling_averages_turns_on_the_sphere() -> None:
    turns = tuple(ActionSpec(f"r{axis}", ActionKind.ROTATION, -3.2, 3.2, 2.0, 80.0) for axis in "xyz")
    kinds = tuple(action.kind for action in turns)
    buffer = EnsemblingBuffer(kinds, decay=0.0)
    for angle in (np.pi - 0.1, -np.pi + 0.1):  # 0.2 rad apart, on either side of half a turn
        buffer.push(ActionChunk(0, PERIOD_NS, np.array([[angle, 0.0, 0.0]])), 0)
    mean = buffer.pop(0)
    assert mean is not None and abs(abs(mean[0]) - np.pi) < 1e-9


@pytest.mark.parametrize(
    ("mode", "asks"),
    [
        (ExecutionMode.SYNCHRONOUS, {(0, False): True, (0, True): False, (3, True): False}),
        (ExecutionMode.ASYNCHRONOUS, {(0, False): True, (3, True): True, (4, True): False}),
        (ExecutionMode.REAL_TIME_CHUNKING, {(0, False): True, (3, True): True, (4, True): False}),
        (ExecutionMode.TEMPORAL_ENSEMBLING, {(0, False): True, (9, True): True}),
    ],
)
def test_when_a_chunk_is_asked_for(mode: ExecutionMode, asks: dict[tuple[int, bool], bool]) -> None:
    execution = ExecutionSettings(mode, refill=3)
    assert {state: execution.asks(*state) for state in asks} == asks


@pytest.mark.parametrize("bad", [{"refill": 0}, {"decay": -0.1}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"refill must be|decay must not"):
        ExecutionSettings(ExecutionMode.ASYNCHRONOUS, **bad)  # type: ignore[arg-type]


class Recorded:
    """An arm that remembers its commands."""

    brakes_itself = True

    def __init__(self) -> None:
        self.sent = [HOME]

    def start(self, reference: np.ndarray) -> None:
        """Nothing to begin."""

    def send(self, command: Command) -> None:
        self.sent.append(command.target)


class World:
    """A policy that goes along x, a centimetre an action; it sees the arm when it is asked and answers some ticks later."""

    def __init__(self, execution: ExecutionSettings, latencies: list[int], length: int = 10, wobble: float = 0.0) -> None:
        self.arm = Recorded()
        self.loop = ControlLoop(ARM, self.arm, tuple, execution=execution)
        self.loop.start(HOME)
        self.latencies, self.length, self.wobble = latencies, length, wobble
        self.prefix = 4 if execution.mode is ExecutionMode.REAL_TIME_CHUNKING else 0
        self.answers: list[tuple[int, ActionChunk]] = []
        self.inferences = 0
        self.began = True
        self.reasons: set[str] = set()

    def tick(self, k: int) -> None:
        now_ns = k * ARM.command_period_ns
        for due, answer in [entry for entry in self.answers if entry[0] <= k]:
            self.loop.buffer.push(answer, now_ns)
            self.answers.remove((due, answer))
        tick = self.loop.tick(now_ns, now_ns)
        self.reasons |= {reason.value for reason in tick.reasons}
        if (tick.requested is not None or tick.starved) and self.loop.asks and not self.answers:
            self.infer(k, now_ns)

    def infer(self, k: int, now_ns: int) -> None:
        committed = self.loop.committed
        self.inferences += 1
        side = self.wobble * (-1) ** self.inferences
        targets = committed[0] + 0.01 * np.arange(1, self.length + 1)[:, None] * X
        targets[:, 1] = HOME[1] + side  # each inference has its own mind
        prefix = committed[1 : 1 + self.prefix]
        targets[: len(prefix)] = prefix
        latency = self.latencies[self.inferences % len(self.latencies)]
        self.answers.append((k + 1 + latency, chunk(now_ns, targets)))

    def run(self, ticks: int) -> np.ndarray:
        for k in range(ticks):
            self.tick(k)
        return np.array(self.arm.sent)


MODES = [
    ExecutionSettings(ExecutionMode.SYNCHRONOUS),
    ExecutionSettings(ExecutionMode.ASYNCHRONOUS, refill=6),
    ExecutionSettings(ExecutionMode.REAL_TIME_CHUNKING, refill=6),
    ExecutionSettings(ExecutionMode.TEMPORAL_ENSEMBLING, decay=0.1),
]


@pytest.mark.parametrize("execution", MODES, ids=lambda execution: execution.mode.value)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.floats(0.0, 0.02))
@example([1, 0, 14, 20, 27], 0.01)  # two targets are taken in one tick
@settings(deadline=None, max_examples=15)
def test_seams_keep_the_limits_whatever_an_inference_takes(
    execution: ExecutionSettings, latencies: list[int], wobble: float
) -> None:
    """0 to 500 ms with jitter, after a cold start of 1 s, of a policy that changes its mind at every inference."""
    world = World(execution, [*latencies, 100] if len(latencies) == 1 else latencies, wobble=wobble)
    sent = world.run(300)
    velocity = np.diff(sent, axis=0)[:, :3] / COMMAND_S
    assert np.abs(velocity).max() <= 0.5 + 1e-6
    assert np.abs(np.diff(velocity, axis=0)).max() / COMMAND_S <= 4.0 + 1e-3
    assert (np.maximum.accumulate(sent[:, 0]) - sent[:, 0]).max() < 0.005  # nobody asked it to go back
    assert sent[-1, 0] > HOME[0] + 0.05


@pytest.mark.parametrize("execution", MODES[1:], ids=lambda execution: execution.mode.value)
def test_with_chunks_in_good_time_the_arm_does_not_slow_down_at_seams(execution: ExecutionSettings) -> None:
    """Inferences take 100 ms; 0.2 m/s are kept from the ramp on."""
    sent = World(execution, [10]).run(300)
    speed = np.diff(sent[:, 0])[60:] / COMMAND_S
    assert speed.min() > 0.19 and speed.max() < 0.21


def test_synchronously_the_arm_rests_between_chunks() -> None:
    sent = World(MODES[0], [10]).run(300)
    speed = np.diff(sent[:, 0]) / COMMAND_S
    rests = (speed[1:] < 1e-9) & (speed[:-1] >= 1e-9)
    assert rests.sum() >= 3


def test_real_time_chunking_continues_the_actions_that_are_sent_in_any_case() -> None:
    """With a new mind at every inference, the prefix holds what is about to be done: nothing changes within it."""
    changed = {}
    for execution in (MODES[1], MODES[2]):
        world = World(execution, [12], wobble=0.01)
        world.run(60)
        before: np.ndarray | None = None
        jumps = []
        for k in range(60, 300):
            revision = world.loop.buffer.revision
            before = world.loop.committed[1:3]
            world.tick(k)
            if world.loop.buffer.revision != revision and len(before) == 2:
                after = world.loop.committed[1:3]
                jumps.append(np.abs(after - before)[:, 1].max() if len(after) == 2 else 0.0)
        changed[execution.mode] = max(jumps)
    assert changed[ExecutionMode.REAL_TIME_CHUNKING] < 1e-9
    assert changed[ExecutionMode.ASYNCHRONOUS] > 0.01

"""The loop against an arm that remembers what it was told: nothing reaches it unguarded."""

from dataclasses import dataclass, field

import numpy as np

from robot_stack.core.control_loop import ControlLoop
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.safety import GuardReason, StreamAge
from robot_stack.core.types import ActionChunk
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_metaworld"))
HOME = np.array([0.0, 0.6, 0.2, 1.0])
PERIOD = SPEC.period_ns
X = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass
class Arm:
    sent: list[np.ndarray] = field(default_factory=list)
    halts: int = 0

    def send(self, target: np.ndarray, stamp_ns: int) -> None:
        self.sent.append(target)

    def halt(self, stamp_ns: int) -> None:
        self.halts += 1


@dataclass
class World:
    """A loop, its arm, and one stream whose age can be set."""

    arm: Arm = field(default_factory=Arm)
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        self.loop = ControlLoop(SPEC, self.arm, lambda: [StreamAge("front", self.stamp_ns, self.stamp_ns, 200_000_000)])
        self.loop.start(HOME)

    def tick(self, k: int, fresh: bool = True):
        if fresh:
            self.stamp_ns = k * PERIOD
        return self.loop.tick(k * PERIOD, k * PERIOD)


def steps(stamp: int, step: float, length: int = 5) -> ActionChunk:
    return ActionChunk(stamp, PERIOD, HOME + step * np.arange(1, length + 1)[:, None] * X)


def test_executes_a_chunk_then_holds() -> None:
    world = World()
    assert world.tick(0).starved
    world.loop.buffer.push(steps(PERIOD, 0.02), 0)
    np.testing.assert_allclose(world.loop.committed[:, 0], 0.02 * np.arange(6))
    for k in range(1, 8):
        tick = world.tick(k)
        assert tick.reasons == ()
        assert tick.starved == (k > 5)
    np.testing.assert_allclose([sent[0] for sent in world.arm.sent], [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1])


def test_an_expired_stream_holds_and_what_was_waiting_is_never_executed() -> None:
    world = World()
    world.loop.buffer.push(steps(0, 0.02, length=20), 0)
    world.tick(0)
    for k in range(1, 5):  # the stream is silent, but not yet too old: 200 ms
        assert world.tick(k, fresh=False).reasons == ()
    moved = world.arm.sent[-1]
    tick = world.tick(5, fresh=False)
    assert tick.reasons == (GuardReason.STALE_OBSERVATION,) and tick.expired[0].name == "front"
    np.testing.assert_array_equal(tick.target, moved)
    recovered = world.tick(6)
    assert recovered.starved and recovered.reasons == ()
    np.testing.assert_array_equal(recovered.target, moved)


def test_an_old_chunk_is_not_executed() -> None:
    world = World()
    world.loop.buffer.push(steps(0, 0.02), 0)
    late = 1 + SPEC.max_chunk_age_ns // PERIOD
    tick = world.tick(late)
    assert tick.reasons == (GuardReason.STALE_CHUNK,)
    np.testing.assert_array_equal(tick.target, HOME)


def test_e_stop_holds_and_drops_what_waits() -> None:
    world = World()
    world.loop.buffer.push(steps(0, 0.02), 0)
    world.tick(0)
    world.loop.guard.e_stop()
    assert world.tick(1).reasons == (GuardReason.E_STOP,)
    world.loop.guard.reset_e_stop()
    np.testing.assert_allclose(world.tick(2).target, HOME + 0.02 * X)


def test_deltas_continue_from_what_was_really_sent() -> None:
    """The reference of the next chunk is the shortened target, not the one that was asked for."""
    world = World()
    world.loop.buffer.push(steps(0, 0.05, length=1), 0)
    assert world.tick(0).reasons == (GuardReason.VELOCITY,)
    np.testing.assert_allclose(world.loop.committed, [HOME + 0.04 * X], atol=1e-9)


def test_halt_comes_last_and_empties_the_buffer() -> None:
    world = World()
    world.loop.buffer.push(steps(0, 0.02), 0)
    world.loop.halt(0)
    assert world.arm.halts == 1 and len(world.loop.buffer) == 0

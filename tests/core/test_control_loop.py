"""The loop against an arm that remembers what it was told: nothing reaches it unguarded."""

import dataclasses
import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from robot_stack.core.control_loop import ControlLoop, Tick
from robot_stack.core.robot_spec import RobotSpec, Violation
from robot_stack.core.safety import GuardReason, StreamAge
from robot_stack.core.types import ActionChunk, Command
from robot_stack.paths import robot_file

SPEC = RobotSpec.load(robot_file("sim_metaworld"))
HOME = np.array([0.0, 0.6, 0.2, 1.0])
PERIOD = SPEC.period_ns
X = np.array([1.0, 0.0, 0.0, 0.0])
REAL_ARM = dataclasses.replace(  # five commands for each action, and a body that cannot stop at once
    SPEC,
    command_rate_hz=100.0,
    actions=tuple(dataclasses.replace(action, max_velocity=0.5, max_acceleration=3.0) for action in SPEC.actions),
)


@dataclass
class Arm:
    commands: list[Command] = field(default_factory=list)
    brakes_itself: bool = True

    def start(self, reference: np.ndarray) -> None:
        """Nothing to begin."""

    def send(self, command: Command) -> None:
        self.commands.append(command)

    @property
    def sent(self) -> list[np.ndarray]:
        return [command.target for command in self.commands]


@dataclass
class World:
    """A loop, its arm, and one stream whose age can be set."""

    arm: Arm = field(default_factory=Arm)
    spec: RobotSpec = SPEC
    stamp_ns: int = 0
    lock_step: bool = False

    def __post_init__(self) -> None:
        def ages() -> list[StreamAge]:
            return [StreamAge("front", self.stamp_ns, self.stamp_ns, 200_000_000)]

        self.loop = ControlLoop(self.spec, self.arm, ages, self.lock_step)
        self.loop.start(HOME)

    def tick(self, k: int, fresh: bool = True) -> Tick:
        now_ns = k * self.spec.command_period_ns
        if fresh:
            self.stamp_ns = now_ns
        return self.loop.tick(now_ns, now_ns)


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


def test_a_brake_drops_what_waits_and_sends_a_hold() -> None:
    world = World()
    world.loop.buffer.push(steps(0, 0.02), 0)
    world.tick(0)
    world.loop.brake(PERIOD)
    assert len(world.loop.buffer) == 0 and world.loop.guard.at_rest
    np.testing.assert_array_equal(world.arm.sent[-1], world.arm.sent[-2])


def test_commands_between_actions_lie_on_a_smooth_path_and_each_carries_its_brake() -> None:
    world = World(spec=REAL_ARM)
    world.loop.buffer.push(steps(0, 0.01, length=10), 0)
    ticks = [world.tick(k) for k in range(60)]
    assert all(tick.reasons == () for tick in ticks)
    assert ticks[-1].starved and world.loop.guard.at_rest
    sent = np.array(world.arm.sent)
    np.testing.assert_allclose(sent[-1], HOME + 0.1 * X, atol=1e-9)
    assert (np.diff(sent[:, 0]) >= -1e-12).all()
    in_time = ticks[30]  # 0.2 m/s are reached after 0.07 s: from then on it keeps the delay of 0.03 s that this took
    assert 0.01 * (30 / 5 - 1) < in_time.target[0] < 0.01 * 30 / 5
    for before, command in itertools.pairwise(world.arm.commands):
        np.testing.assert_allclose(command.velocity, (command.target - before.target) * REAL_ARM.command_rate_hz, atol=1e-9)
        stop = [command.target, *command.tail]
        change = np.diff([before.target, *stop, stop[-1]], n=2, axis=0) * REAL_ARM.command_rate_hz**2
        assert np.abs(change).max() <= 3.0 + 1e-6


def test_an_expired_stream_brakes_along_the_tail_that_was_sent() -> None:
    world = World(spec=REAL_ARM)
    world.loop.buffer.push(steps(0, 0.02, length=40), 0)
    for k in range(30):
        world.tick(k)
    promised = world.arm.commands[-1].tail
    assert len(promised) > 5
    late = 31 + 20
    braked = [world.tick(late + k, fresh=False) for k in range(len(promised) + 2)]
    assert {tick.reasons for tick in braked} == {(GuardReason.STALE_OBSERVATION,)}
    np.testing.assert_allclose([tick.target for tick in braked[: len(promised)]], promised, atol=1e-9)
    assert world.loop.guard.at_rest
    assert world.tick(late + 40).starved  # what waited is gone


def test_a_path_that_asks_too_much_is_followed_more_slowly() -> None:
    """The targets want 0.7 m/s, the arm can do 0.5: it goes through all of them, later."""
    world = World(spec=REAL_ARM)
    world.loop.buffer.push(steps(0, 0.035, length=8), 0)
    ticks = [world.tick(k) for k in range(100)]
    assert {reason for tick in ticks for reason in tick.reasons} == set()
    sent = np.array(world.arm.sent)[:, 0]
    assert sent[-1] == pytest.approx(0.28, abs=1e-9) and (np.diff(sent) >= -1e-12).all()
    assert 0.28 / 0.5 + 0.5 / 3.0 < np.argmax(sent >= 0.28 - 1e-9) * 0.01 < 1.0  # at full speed, and a ramp at either end


def test_after_missed_ticks_the_loop_follows_an_arm_that_has_braked_by_itself() -> None:
    world = World(spec=REAL_ARM)
    world.loop.buffer.push(steps(0, 0.02, length=40), 0)
    for k in range(30):
        world.tick(k)
    promised = world.arm.commands[-1].tail
    world.loop.late([k * REAL_ARM.command_period_ns for k in (30, 31, 32)])
    np.testing.assert_allclose(world.arm.sent[-3:], promised[:3], atol=1e-9)
    ticks = [world.tick(k) for k in range(33, 60)]
    assert all(tick.reasons == () for tick in ticks)  # and goes on from there, within the limits
    places = np.array(world.arm.sent)[:, 0]
    assert (np.diff(places) >= -1e-12).all()  # never back
    assert places[-1] > 0.02 * (60 / 5 - 3)  # with a delay of three actions at most


def test_an_arm_that_stands_still_when_it_hears_nothing_begins_again_from_rest() -> None:
    world = World(arm=Arm(brakes_itself=False), spec=REAL_ARM)
    world.loop.buffer.push(steps(0, 0.02, length=40), 0)
    for k in range(30):
        world.tick(k)
    sent = len(world.arm.sent)
    world.loop.late([30 * REAL_ARM.command_period_ns])
    assert len(world.arm.sent) == sent and world.loop.guard.at_rest
    world.tick(31)
    assert np.abs(world.arm.sent[-1] - world.arm.sent[-2]).max() <= 3.0 * 0.01**2 + 1e-9


PATIENT = [dataclasses.replace(spec, max_chunk_age_ns=10_000_000_000) for spec in (SPEC, REAL_ARM)]


def far_chunk(stamp_ns: int, away: float, jump_at: int | None = None) -> ActionChunk:
    """Four targets a centimetre apart, the first ``away`` from home; with a jump of 10 cm more before one of them."""
    offsets = away + 0.01 * np.arange(4)
    if jump_at is not None:
        offsets[jump_at:] += 0.1
    return ActionChunk(stamp_ns, PERIOD, HOME + offsets[:, None] * X)


@pytest.mark.parametrize("spec", PATIENT, ids=["a command for each action", "five"])
def test_a_chunk_that_begins_far_away_is_approached_slowly_and_then_executed(spec: RobotSpec) -> None:
    world = World(spec=spec)
    world.loop.buffer.push(far_chunk(0, 0.15), 0)
    period_s = 1 / spec.command_rate_hz
    ticks = [world.tick(k) for k in range(round(2.0 / period_s))]
    assert {reason for tick in ticks for reason in tick.reasons} == set()
    sent = np.array(world.arm.sent)[:, 0]
    assert sent[-1] == pytest.approx(0.18, abs=1e-9)
    speed = np.diff(sent, prepend=0.0) / period_s
    slow = spec.approach_speed * spec.max_velocity[0]
    approaching = sent < 0.15 - spec.max_jump * spec.max_step[0]
    assert approaching.sum() > 0.05 / slow / period_s
    assert speed[approaching].max() <= slow + 1e-9
    asked = [tick.requested[0] for tick in ticks if tick.requested is not None]
    np.testing.assert_allclose(asked, [0.15, 0.16, 0.17, 0.18])


@pytest.mark.parametrize("spec", PATIENT, ids=["a command for each action", "five"])
def test_a_jump_inside_a_chunk_ends_it(spec: RobotSpec) -> None:
    world = World(spec=spec)
    world.loop.buffer.push(far_chunk(0, 0.01, jump_at=2), 0)
    ticks = [world.tick(k) for k in range(60)]
    assert [tick.reasons for tick in ticks if tick.reasons] == [(GuardReason.JUMP,)]
    np.testing.assert_allclose(world.arm.sent[-1], HOME + 0.02 * X, atol=1e-9)
    assert not world.loop.executes and world.loop.asks


@pytest.mark.parametrize("spec", PATIENT, ids=["a command for each action", "five"])
def test_where_violations_hold_only_the_first_chunk_may_begin_far_away(spec: RobotSpec) -> None:
    world = World(spec=dataclasses.replace(spec, on_violation=Violation.HOLD))
    world.loop.buffer.push(far_chunk(0, 0.1), 0)
    count = round(1.5 * spec.command_rate_hz)
    first = [world.tick(k) for k in range(count)]
    assert {reason for tick in first for reason in tick.reasons} == set()
    np.testing.assert_allclose(world.arm.sent[-1], HOME + 0.13 * X, atol=1e-9)
    world.loop.buffer.push(far_chunk(count * spec.command_period_ns, 0.3), count * spec.command_period_ns)
    later = [world.tick(k) for k in range(count, count + 40)]
    assert [tick.reasons for tick in later if tick.reasons] == [(GuardReason.JUMP,)]
    np.testing.assert_allclose(world.arm.sent[-1], HOME + 0.13 * X, atol=1e-9)


def test_in_lock_step_a_jump_is_judged_by_the_guard_alone_as_without_ros() -> None:
    """Target by target, and the rest of the chunk goes on."""
    world = World(lock_step=True)
    targets = HOME + np.array([0.02, 0.5, 0.04, 0.06])[:, None] * X
    world.loop.buffer.push(ActionChunk(0, PERIOD, targets), 0)
    reasons = [world.tick(k).reasons for k in range(4)]
    assert reasons == [(), (GuardReason.JUMP,), (), ()]
    np.testing.assert_allclose(world.arm.sent[-1], targets[-1])

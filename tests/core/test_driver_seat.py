"""Who drives: a person takes over by speaking, and the policy goes on only when it may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_stack.core.chunk_buffer import ChunkBuffer
from robot_stack.core.driver_seat import Driver, DriverSeat, SeatSettings

MS = 1_000_000


def seat(takeover: bool = True, hand_back_ms: int | None = None, owner: Driver = Driver.POLICY) -> DriverSeat:
    hand_back_ns = None if hand_back_ms is None else hand_back_ms * MS
    return DriverSeat(SeatSettings(owner, takeover, 200 * MS, 250 * MS, 150 * MS, hand_back_ns))


def test_without_takeover_only_the_owner_is_heard() -> None:
    for owner, other in ((Driver.POLICY, Driver.TELEOP), (Driver.TELEOP, Driver.POLICY)):
        own = seat(takeover=False, owner=owner)
        assert own.admits(owner, 0) and not own.admits(other, 0)
        assert not own.intervenes


def test_a_person_takes_over_by_speaking_and_silence_alone_gives_nothing_back() -> None:
    taken = seat()
    assert taken.admits(Driver.POLICY, 0)
    assert taken.admits(Driver.TELEOP, 10 * MS) and taken.intervenes
    assert not taken.admits(Driver.POLICY, 20 * MS)
    assert not taken.settle(at_rest=True, steady_ns=10**12)
    taken.hand_back()
    assert not taken.settle(at_rest=False, steady_ns=10**12)
    assert taken.settle(at_rest=True, steady_ns=10**12)
    assert taken.admits(Driver.POLICY, 10**12) and not taken.intervenes


def test_who_speaks_on_after_handing_back_keeps_the_arm() -> None:
    taken = seat()
    taken.admits(Driver.TELEOP, 0)
    taken.hand_back()
    taken.admits(Driver.TELEOP, 100 * MS)
    assert not taken.settle(at_rest=True, steady_ns=10**12)


def test_silence_gives_back_where_that_is_wanted() -> None:
    taken = seat(hand_back_ms=500)
    taken.admits(Driver.TELEOP, 0)
    assert not taken.settle(at_rest=True, steady_ns=500 * MS)
    assert taken.settle(at_rest=True, steady_ns=501 * MS)


@given(st.lists(st.sampled_from(["person", "policy", "tick", "rest"]), max_size=40))
def test_the_policy_is_never_heard_between_a_takeover_and_a_hand_back(events: list[str]) -> None:
    taken, now_ns, person = seat(), 0, False
    for event in events:
        now_ns += 100 * MS
        if event == "person":
            assert taken.admits(Driver.TELEOP, now_ns)
            person = True
        elif event == "policy":
            assert taken.admits(Driver.POLICY, now_ns) != person
        else:
            assert not taken.settle(event == "rest", now_ns)


def expired(taken: DriverSeat, now_ns: int) -> list[str]:
    return [age.name for age in taken.ages(ChunkBuffer(1)) if age.expired(now_ns, now_ns)]


def test_the_age_is_that_of_who_drives() -> None:
    taken, waiting = seat(), ChunkBuffer(1)
    assert expired(taken, 0) == ["policy"]  # never heard
    taken.heartbeat(5 * MS, 5 * MS, inferring=False)
    assert expired(taken, 205 * MS) == [] and expired(taken, 206 * MS) == ["policy"]
    taken.admits(Driver.TELEOP, 0)
    waiting.stamp_ns, waiting.received_ns = 7 * MS, 8 * MS
    (age,) = taken.ages(waiting)
    assert (age.name, age.stamp_ns, age.received_ns, age.limit_ns) == ("teleop", 7 * MS, 8 * MS, 150 * MS)


def test_an_inference_may_last_as_long_as_actions_are_executed_meanwhile_but_its_node_has_to_speak() -> None:
    taken = seat()
    for now_ms in range(0, 480, 30):
        taken.heartbeat(now_ms * MS, now_ms * MS, inferring=True)
        assert expired(taken, (now_ms + 1) * MS) == ([] if now_ms < 250 else ["policy's inference"])
    taken.heartbeat(480 * MS, 480 * MS, inferring=False)
    assert expired(taken, 481 * MS) == []
    taken.heartbeat(500 * MS, 500 * MS, inferring=True)
    assert expired(taken, 701 * MS) == ["policy"]  # killed or stopped


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="needs the policy as source"):
        seat(owner=Driver.TELEOP)
    with pytest.raises(ValueError, match="longer than the one after which the arm holds"):
        seat(hand_back_ms=150)

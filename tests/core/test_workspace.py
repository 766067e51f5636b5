"""No point of the arm goes where it must not be, not even in the brake that would follow; and from there it may come back."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_stack.core.errors import BadFileError
from robot_stack.core.robot_spec import ActionKind, ActionSpec, RobotSpec
from robot_stack.core.safety import Guard, GuardReason
from robot_stack.core.types import FloatArray
from robot_stack.core.workspace import Box, Workspace
from robot_stack.paths import robot_file

PERIOD_S = 0.01
UPPER_M, LOWER_M = 0.5, 0.4  # lengths of the links
ARM = dataclasses.replace(
    RobotSpec.load(robot_file("sim_metaworld")),
    actions=(
        ActionSpec("shoulder", ActionKind.JOINT, -3.0, 3.0, 2.0, 8.0),
        ActionSpec("elbow", ActionKind.JOINT, -2.8, 2.8, 2.0, 8.0),
    ),
    max_jump=1e9,
)
TABLE = Box("table", (-2.0, -2.0, -1.0), (2.0, -0.3, 1.0))
POST = Box("post", (0.35, 0.3, -1.0), (0.55, 0.5, 1.0))
ROOM = Box("room", (-0.8, -0.8, -1.0), (0.95, 0.95, 1.0))
WORKSPACE = Workspace(ROOM, (TABLE, POST), ("elbow", "tool"), margin_m=0.02)


class PlanarArm:
    """Two links in the plane, whose kinematics everybody knows."""

    def points(self, joints: FloatArray) -> FloatArray:
        shoulder, whole = joints[:, 0], joints[:, 0] + joints[:, 1]
        elbow = UPPER_M * np.stack([np.cos(shoulder), np.sin(shoulder), 0 * shoulder], axis=-1)
        tool = elbow + LOWER_M * np.stack([np.cos(whole), np.sin(whole), 0 * whole], axis=-1)
        return np.stack([elbow, tool], axis=1)


penetration = WORKSPACE.of_joints(PlanarArm(), [0, 1])


def free_start(draw: st.DrawFn) -> np.ndarray:
    place = np.array([draw(st.floats(-2.9, 2.9)), draw(st.floats(-2.7, 2.7))])
    return place if penetration(place[None])[0] < 0 else np.array([0.1, 0.2])


@st.composite
def journeys(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[np.ndarray, int]]]:
    goal = st.tuples(st.floats(-3, 3), st.floats(-2.8, 2.8)).map(np.array)
    return free_start(draw), draw(st.lists(st.tuples(goal, st.integers(1, 60)), min_size=1, max_size=6))


@given(journeys())
@settings(deadline=None, max_examples=60)
def test_wherever_it_is_sent_the_arm_stays_clear_and_so_does_every_brake(
    journey: tuple[np.ndarray, list[tuple[np.ndarray, int]]],
) -> None:
    start, goals = journey
    guard = Guard(ARM, PERIOD_S, penetration)
    guard.start(start)
    for goal, periods in goals:
        for _ in range(periods):
            guard.check(guard.in_force + np.clip(goal - guard.in_force, -0.03, 0.03))
            assert penetration(guard.in_force[None])[0] <= 1e-9
            tail = guard.tail
            if len(tail):  # between the points that are looked at, within the margin
                assert penetration(tail).max() <= WORKSPACE.margin_m


def test_towards_the_table_the_arm_comes_to_rest_before_it_and_says_why() -> None:
    guard = Guard(ARM, PERIOD_S, penetration)
    guard.start(np.array([0.3, 0.0]))
    reasons = set()
    for _ in range(200):
        reasons |= set(guard.check(guard.in_force - np.array([0.02, 0.0])).reasons)
    assert GuardReason.WORKSPACE in reasons
    assert guard.at_rest
    tool = PlanarArm().points(guard.in_force[None])[0, 1]
    assert -0.3 + 0.02 - 1e-9 <= tool[1] <= -0.3 + 0.04  # at the margin, within the steps in which it is approached


def test_from_inside_a_box_it_may_come_out_but_not_go_deeper() -> None:
    inside = np.array([-0.4, 0.0])  # the stretched arm reaches below the table's top
    depth = penetration(inside[None])[0]
    assert depth > 0
    guard = Guard(ARM, PERIOD_S, penetration)
    guard.start(inside)
    assert guard.check(inside - np.array([0.0005, 0.0])).reasons == (GuardReason.WORKSPACE,)
    guard.start(inside)
    depths = []
    for _ in range(100):
        guard.check(guard.in_force + np.array([0.0005, 0.0]))
        depths.append(penetration(guard.in_force[None])[0])
    assert depths[-1] < depth and (np.diff(depths) <= 1e-9).all()


def test_depths_of_known_points() -> None:
    points = np.array([[[0.45, 0.4, 0.0]], [[0.0, 0.0, 0.0]], [[0.9, 0.0, 0.0]], [[0.0, -0.25, 0.0]]])
    depths = dataclasses.replace(WORKSPACE, points=("tool",)).penetration(points)
    np.testing.assert_allclose(depths, [0.1 + 0.02, -0.3 + 0.02, -0.05 + 0.02, -0.05 + 0.02])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["workspace"].pop("points"), r"workspace\.points is missing"),
        (lambda raw: raw["workspace"]["inside"].update(lower=[0, 0]), r"workspace\.inside\.lower must be three finite numbers"),
        (lambda raw: raw["workspace"]["keep_out"][0].update(upper=[-1, 1, 1]), "lower must be below upper on every axis"),
        (lambda raw: raw["workspace"].update(margin_m=0), r"workspace\.margin_m must be a positive number"),
        (lambda raw: (raw["workspace"].pop("inside"), raw["workspace"].pop("keep_out")), "inside or keep_out is missing"),
        (lambda raw: raw.pop("model"), "workspace needs a model of the arm"),
        (lambda raw: raw["workspace"].update(cage=1), r"unknown entry workspace\.cage"),
    ],
)
def test_bad_workspaces_are_refused_by_name(change: Any, message: str) -> None:
    raw = yaml.safe_load(robot_file("sim_arm").read_text())
    RobotSpec.from_mapping(raw)
    change(raw)
    with pytest.raises(BadFileError, match=message):
        RobotSpec.from_mapping(raw)


def test_a_box_may_count_for_some_of_the_points_only() -> None:
    both = np.array([[[0.45, 0.4, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.45, 0.4, 0.0]]])
    elbows_only = dataclasses.replace(POST, points=("elbow",))
    depths = Workspace(None, (elbows_only,), ("elbow", "tool"), margin_m=0.02).penetration(both)
    np.testing.assert_allclose(depths[0], 0.1 + 0.02)
    assert depths[1] < 0

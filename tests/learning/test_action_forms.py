"""Actions of other people's data: whatever their form, composing our deltas gives the motion that they describe."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from learning.action_forms import ActionForm, ActionSpace, GripperScale, RotationForm, kinds_of
from learning.episode_store import CLIP_FORM, load_episodes
from robot_stack.core.actions import compose
from robot_stack.core.errors import ProphRLError

CLIPS = Path(__file__).parents[1] / "data" / "bridge_clips"
ARM = kinds_of(["3*position", "3*rotation", "gripper"])
LENGTH = 12


def motion(seed: int = 0) -> tuple[np.ndarray, Rotation, np.ndarray]:
    """Positions [T + 1, 3], orientations and openings of an arm that moves at random."""
    draw = np.random.default_rng(seed)
    places = np.cumsum(draw.normal(0, 0.05, (LENGTH + 1, 3)), axis=0)
    turns = [Rotation.from_rotvec(draw.normal(0, 1, 3))]
    for step in draw.normal(0, 0.3, (LENGTH, 3)):
        turns.append(turns[-1] * Rotation.from_rotvec(step))
    return places, Rotation.concatenate(turns), draw.uniform(0, 1, LENGTH + 1)


def written(rotation: Rotation, form: RotationForm) -> np.ndarray:
    return rotation.as_rotvec() if form is RotationForm.VECTOR else rotation.as_euler("xyz")


@pytest.mark.parametrize("rotation", list(RotationForm))
@pytest.mark.parametrize("space", [ActionSpace.ABSOLUTE, ActionSpace.DELTA_BASE, ActionSpace.DELTA_TOOL])
def test_deltas_of_any_form_lead_along_the_same_motion(space: ActionSpace, rotation: RotationForm) -> None:
    places, turns, openings = motion()
    steps = np.diff(places, axis=0)
    if space is ActionSpace.ABSOLUTE:
        told, change = places[1:], turns[1:]
    elif space is ActionSpace.DELTA_BASE:
        told, change = steps, turns[1:] * turns[:-1].inv()
    else:
        told, change = turns[:-1].inv().apply(steps), turns[:-1].inv() * turns[1:]
    closed_is_one = GripperScale(closed=1.0, open=0.0)
    form = ActionForm(space, ARM, rotation, closed_is_one, rotation)
    actions = np.hstack([told, written(change, rotation), 1.0 - openings[1:, None]])
    measured = np.hstack([places, written(turns, rotation), openings[:, None]])[:-1]
    commanded, deltas = form.read(measured, actions)
    targets = compose(commanded[0], deltas, ARM)
    np.testing.assert_allclose(targets[:, :3], places[1:], atol=1e-9)
    assert (turns[1:].inv() * Rotation.from_rotvec(targets[:, 3:6])).magnitude().max() < 1e-7
    np.testing.assert_allclose(targets[:, 6], openings[1:], atol=1e-12)
    np.testing.assert_allclose(commanded[:, :3], places[:-1], atol=1e-12)
    assert (turns[:-1].inv() * Rotation.from_rotvec(commanded[:, 3:6])).magnitude().max() < 1e-7


def test_two_arms_turn_their_own_steps() -> None:
    """Each arm's step in its tool's frame is turned by its own orientation: a quarter turn about z, and none."""
    form = ActionForm(ActionSpace.DELTA_TOOL, (*ARM, *ARM))
    measured, actions = np.zeros((1, 14)), np.zeros((1, 14))
    measured[0, 5] = np.pi / 2
    actions[0, [0, 7]] = 1.0
    _, deltas = form.read(measured, actions)
    np.testing.assert_allclose(deltas[0, [0, 1, 2]], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(deltas[0, [7, 8, 9]], [1, 0, 0], atol=1e-12)


def test_joints_as_targets_and_as_changes() -> None:
    kinds = kinds_of(["2*joint", "gripper"])
    joints = np.array([[0.0, 1.0, 0.2], [0.5, 1.0, 0.4], [0.5, 3.0, 0.6]])
    still, deltas = ActionForm(ActionSpace.JOINT, kinds).read(None, joints)
    np.testing.assert_allclose(deltas, [[0, 0, 0.2], [0.5, 0, 0.4], [0, 2, 0.6]])  # nobody measured: at rest at first
    np.testing.assert_allclose(still, joints[[0, 0, 1]])
    measured = np.array([[-0.1, 1.0, 0.1]]).repeat(3, axis=0)
    _, deltas = ActionForm(ActionSpace.JOINT, kinds).read(measured, joints)
    np.testing.assert_allclose(deltas[0], [0.1, 0, 0.2])
    commanded, deltas = ActionForm(ActionSpace.DELTA_JOINT, kinds).read(measured, joints)
    np.testing.assert_allclose(deltas, joints)
    np.testing.assert_allclose(commanded, measured)


def test_a_gripper_in_other_units() -> None:
    form = ActionForm(ActionSpace.JOINT, kinds_of(["gripper"]), gripper=GripperScale(closed=100.0, open=20.0))
    commanded, deltas = form.read(None, np.array([[100.0], [60.0], [20.0]]))
    np.testing.assert_allclose(deltas[:, 0], [0, 0.5, 1])
    np.testing.assert_allclose(commanded[:, 0], [0, 0, 0.5])


@pytest.mark.parametrize(
    ("space", "numbers", "message"),
    [
        (ActionSpace.ABSOLUTE, ["3*position", "2*rotation", "gripper"], "rotations must come in threes"),
        (ActionSpace.ABSOLUTE, ["rotation", "position", "2*rotation"], "next to each other"),
        (ActionSpace.JOINT, ["3*position"], "with action_space=joint there can only be gripper, joint"),
        (ActionSpace.DELTA_BASE, ["6*joint"], "there can only be gripper, position, rotation"),
        (ActionSpace.DELTA_TOOL, ["3*position", "gripper"], "three rotations must follow each three positions"),
        (ActionSpace.DELTA_TOOL, ["3*rotation", "3*position"], "three rotations must follow each three positions"),
        (ActionSpace.ABSOLUTE, ["3*pos"], "'3\\*pos' is none of position, rotation, joint, gripper"),
        (ActionSpace.ABSOLUTE, ["x*position"], "is none of position"),
    ],
)
def test_what_does_not_go_together_is_refused(space: ActionSpace, numbers: list[str], message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        ActionForm(space, kinds_of(numbers))


def test_changes_need_something_measured() -> None:
    with pytest.raises(ProphRLError, match="action_space=delta_base counts from what is measured"):
        ActionForm(ActionSpace.DELTA_BASE, ARM).read(None, np.zeros((2, 7)))
    with pytest.raises(ProphRLError, match="different numbers for closed and open"):
        GripperScale(1.0, 1.0)


def test_integrated_actions_of_bridge_clips_end_near_their_states() -> None:
    """Composed from the first pose, a clip's deltas come nearer to where the arm went than a still arm or wrong frames do."""
    ours, still, as_if_tool, one_late = (np.zeros(2) for _ in range(4))
    for clip in load_episodes(CLIPS):
        pose, deltas = clip.commanded.astype(np.float64), clip.deltas.astype(np.float64)
        measured = clip.state.astype(np.float64)
        truth = pose[1:]
        ours += _distance(compose(pose[0], deltas[:-1], ARM), truth)
        still += _distance(pose[:1].repeat(len(truth), axis=0), truth)
        one_late += _distance(compose(pose[0], deltas[1:], ARM), truth)
        with np.load(CLIPS / f"{clip.name}.npz", allow_pickle=False) as arrays:
            action = arrays["action"].astype(np.float64)
        tool = ActionForm(ActionSpace.DELTA_TOOL, ARM, RotationForm.EULER_XYZ, measured_rotation=RotationForm.EULER_XYZ)
        _, wrong = tool.read(measured, action)
        as_if_tool += _distance(compose(pose[0], wrong[:-1], ARM), truth)
        base, _ = CLIP_FORM.read(measured, action)
        np.testing.assert_allclose(base, pose, atol=1e-6)
    assert (ours < 0.25 * still).all()
    assert (ours < as_if_tool).all()
    assert (ours < one_late).all()


def _distance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Summed distance of positions [m] and of orientations [rad]."""
    turn = Rotation.from_rotvec(ours[:, 3:6]).inv() * Rotation.from_rotvec(theirs[:, 3:6])
    return np.array([np.linalg.norm(ours[:, :3] - theirs[:, :3], axis=1).sum(), turn.magnitude().sum()])

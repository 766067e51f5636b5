"""Perturbed replays: known motions in numbers, and what the simulator makes of them."""

import numpy as np
import pytest

from robot_stack.core.errors import ProphRLError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.perturbations import (
    KINDS,
    UNCHANGED,
    PerturbationSettings,
    perturbed_behaviour,
    perturbed_deltas,
    perturbed_episodes,
)
from robot_stack.paths import robot_file

TASK = "push-v3"
SETTINGS = PerturbationSettings(bias=0.35, shift=0.05, horizon=20)
STARTS = (910_000, 910_001)


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_file("sim_metaworld"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("perturbed")


@pytest.fixture(scope="module")
def made(spec, kept):
    return perturbed_episodes(spec, TASK, KINDS, STARTS, settings=SETTINGS, out=kept, workers=1)


def changed(kind, spec, seed=0):
    random = np.random.Generator(np.random.Philox(seed))
    deltas = np.column_stack([0.01 * random.normal(size=(12, 3)), random.uniform(size=12)])
    first = np.array([0.0, 0.6, 0.2, 1.0])
    return deltas, perturbed_deltas(kind, deltas, first, spec, SETTINGS, random)


def test_a_bias_is_constant_and_of_the_size_asked_for(spec):
    deltas, other = changed("biased", spec)
    bias = other - deltas
    np.testing.assert_allclose(bias, np.tile(bias[0], (12, 1)), atol=1e-12)
    assert np.linalg.norm(bias[0, :3] / spec.max_step[:3]) == pytest.approx(0.35)
    assert bias[0, 3] == 0.0
    assert not np.allclose(changed("biased", spec, seed=1)[1][0] - changed("biased", spec, seed=1)[0][0], bias[0])


def test_a_shifted_path_runs_beside_the_original_at_its_height(spec):
    deltas, other = changed("shifted", spec)
    apart = np.cumsum(other - deltas, axis=0)
    np.testing.assert_allclose(np.linalg.norm(apart[SETTINGS.shift_ticks - 1 :, :2], axis=1), 0.05)
    np.testing.assert_allclose(apart[:, 2:], 0.0, atol=1e-12)


def test_mirroring_twice_is_the_original(spec):
    deltas, other = changed("mirrored", spec)
    np.testing.assert_allclose(other + deltas, 2 * deltas * [1, 0, 1, 1])


def test_frozen_and_frozen_gripper(spec):
    deltas, gripper = changed("frozen_gripper", spec)
    np.testing.assert_array_equal(gripper[:, :3], deltas[:, :3])
    np.testing.assert_array_equal(gripper[:, 3], 1.0)
    np.testing.assert_array_equal(changed("frozen", spec)[1], np.tile([0.0, 0.0, 0.0, 1.0], (12, 1)))


def test_unknown_names_are_refused(spec):
    with pytest.raises(UnknownNameError, match="frozen_gripper"):
        changed("wobbly", spec)
    with pytest.raises(UnknownNameError, match="wobbly"):
        perturbed_episodes(spec, TASK, ["wobbly"], [0])
    with pytest.raises(ProphRLError, match="actor"):
        perturbed_episodes(spec, TASK, ["frozen"], [0], policy=lambda spec: None)


def test_all_episodes_of_a_start_begin_with_the_same_picture(made):
    for start in made:
        assert list(start) == [UNCHANGED, *KINDS]
        first = start[UNCHANGED].images["front"][0]
        for episode in start.values():
            differing = (episode.images["front"][0] != first).any(axis=-1)
            assert differing.sum() <= 12  # Meta-World moves the goal's mark, 3 x 3 px, only with the first step
            np.testing.assert_allclose(episode.positions["object"][0], start[UNCHANGED].positions["object"][0], atol=1e-6)
    assert not np.array_equal(*(start[UNCHANGED].images["front"][0] for start in made))


def test_the_simulator_repeats_the_original_and_goes_elsewhere_under_perturbation(made):
    for start in made:
        original = start[UNCHANGED]
        assert original.success
        assert start["replayed"].success == original.success
        np.testing.assert_allclose(start["replayed"].positions["tool"], original.positions["tool"], atol=1e-3)
        assert not start["frozen"].success
        assert np.ptp(start["frozen"].positions["tool"], axis=0).max() < 0.02
        for kind in ("biased", "shifted", "mirrored", "random"):
            assert np.linalg.norm(start[kind].positions["tool"][-1] - original.positions["tool"][-1]) > 0.03


def test_perturbed_actions_are_recorded_as_they_were_sent(made, spec):
    original, mirrored = made[0][UNCHANGED], made[0]["mirrored"]
    y = spec.action_names.index("y")
    assert mirrored.deltas[2, y] == pytest.approx(-original.deltas[2, y], abs=1e-6)


def test_what_was_made_is_read_again_and_other_settings_are_made_anew(spec, kept, made):
    times = {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")}
    again = perturbed_episodes(spec, TASK, KINDS, STARTS, settings=SETTINGS, out=kept, workers=1)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")} == times
    np.testing.assert_array_equal(again[1]["random"].images["front"], made[1]["random"].images["front"])
    larger = perturbed_episodes(
        spec, TASK, ["biased"], STARTS[:1], settings=PerturbationSettings(bias=0.7, horizon=20), out=kept, workers=1
    )
    assert not np.array_equal(larger[0]["biased"].deltas, made[0]["biased"].deltas)


def test_the_same_motion_is_seen_by_other_cameras_and_kept_apart(spec, kept, made):
    times = {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")}
    seen = perturbed_episodes(spec, TASK, ["biased"], STARTS[:1], settings=SETTINGS, out=kept, cameras=["close"], workers=1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for kind, episode in seen[0].items():
        assert list(episode.images) == ["close"]
        np.testing.assert_array_equal(episode.deltas, made[0][kind].deltas)
        assert (episode.images["close"] != made[0][kind].images["front"]).mean() > 0.5


def test_two_processes_make_the_same(spec, made):
    other = perturbed_episodes(spec, TASK, ["biased", "random"], STARTS, settings=SETTINGS, workers=2)
    for kind in (UNCHANGED, "biased", "random"):
        np.testing.assert_array_equal(other[1][kind].deltas, made[1][kind].deltas)


def test_random_motion_depends_on_the_start_alone(made, spec):
    targets = [
        perturbed_behaviour("random", made[0][UNCHANGED], spec, SETTINGS, seed).target(np.array([0.0, 0.6, 0.2, 1.0]), None)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(targets[0], targets[1])
    assert not np.array_equal(targets[0], targets[2])

"""Known answers of the simulator's cameras: what is projected to a pixel is rendered at that pixel."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from learning.episode_store import load_episodes
from robot_stack.core.errors import UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.drivers.behaviours import make_behaviour
from robot_stack.drivers.sim_cameras import CAMERAS
from robot_stack.drivers.sim_collect import CollectionPlan, collect_task, run_episode
from robot_stack.paths import robot_file
from tests.drivers.seen import GRIPPER, SIZE, distance, geoms_of, outside, pixels_of, segmentation

pytestmark = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="the simulator is not installed")
if importlib.util.find_spec("metaworld"):
    from robot_stack.drivers.sim_metaworld import MetaWorldArm

# Tools far apart, at several heights; open and closed.
TOOLS = [
    (0.0, 0.6, 0.2, 1.0),
    (0.15, 0.55, 0.1, 0.0),
    (-0.15, 0.75, 0.25, 1.0),
    (0.05, 0.7, 0.12, 0.0),
    (-0.1, 0.55, 0.08, 0.0),
]
# Task -> body of "object" and of "object_2".
OBJECTS = {
    "push-v3": ("obj",),
    "soccer-v3": ("soccer_ball",),
    "coffee-pull-v3": ("obj",),
    "drawer-open-v3": ("drawer_link",),
    "stick-push-v3": ("stick", "object"),
}


@pytest.fixture(scope="module")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_file("sim_metaworld"))


@pytest.mark.parametrize("name", CAMERAS)
def test_small_spheres_are_seen_where_they_are_projected(name: str) -> None:
    """Ten pixels wide each: the mean of their pixels is known to a small part of one."""
    import mujoco

    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-0.3, 0.3, 40), rng.uniform(0.45, 0.9, 40), rng.uniform(0.0, 0.3, 40)])
    spheres = "".join(f'<geom type="sphere" size="0.03" pos="{x} {y} {z}"/>' for x, y, z in places)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{spheres}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = CAMERAS[name].model(SIZE, SIZE, float(model.vis.global_.fovy))
    pixels, depth = camera.project(places)
    errors = []
    with segmentation(model) as segment:
        seen = segment(data, name)
        for i, (place, z) in enumerate(zip(pixels, depth, strict=True)):
            radius = 0.03 / z * camera.k[0, 0]
            found = pixels_of(seen, model, "GEOM", [i])
            if len(found) > 0.95 * np.pi * radius**2 and (place > radius + 1).all() and (place < SIZE - 2 - radius).all():
                errors.append(np.linalg.norm(found.mean(axis=0) - place))
    assert len(errors) >= 5  # the others are hidden or at the border
    assert max(errors) < 0.4, errors
    assert np.mean(errors) < 0.2, errors


def test_the_tool_is_seen_between_the_fingers_at_its_projected_pixel(spec: RobotSpec) -> None:
    arm = MetaWorldArm(spec, "push-v3", tuple(CAMERAS), SIZE)
    model, data = arm._env.model, arm._env.data
    geoms = [model.geom(geom).id for geom in GRIPPER]
    checked = 0
    with segmentation(model) as segment:
        for x, y, z, opening in TOOLS:
            arm.reset(1)
            for _ in range(25):
                arm.step(np.array([x, y, z, opening]))
            for name in arm.camera_names:
                point, depth = arm.camera_model(name).project(arm.positions["tool"])
                gripper = pixels_of(segment(data, name), model, "GEOM", geoms)
                if len(gripper) < 20:
                    continue  # the arm hides it
                assert 0.4 < depth < 1.6
                assert outside(gripper, point) <= 2.0, (name, x, y, z)
                if opening == 0.0:
                    assert distance(gripper, point) <= 2.0, (name, x, y, z)
                checked += 1
    assert checked >= 32  # of 40; the arm hides the others


@pytest.mark.parametrize("task", OBJECTS)
def test_objects_and_goals_are_seen_at_their_projected_pixels(spec: RobotSpec, task: str) -> None:
    arm = MetaWorldArm(spec, task, tuple(CAMERAS), SIZE)
    model, data = arm._env.model, arm._env.data
    things = {thing: geoms_of(model, body) for thing, body in zip(("object", "object_2"), OBJECTS[task], strict=False)}
    arm.reset(0)
    robot = geoms_of(model, "right_l0")
    goal = [data.site(arm._env._target_site_config[0][0]).id]
    checked = dict.fromkeys(arm.positions, 0)
    with segmentation(model) as segment:
        for seed in (1, 2):
            arm.reset(seed)
            for tick in range(6):
                if tick in (0, 5):
                    for name in arm.camera_names:
                        seen = segment(data, name)
                        for thing in checked.keys() - {"tool"}:
                            is_goal = thing == "goal"
                            shown = pixels_of(seen, model, "SITE" if is_goal else "GEOM", goal if is_goal else things[thing])
                            point, _ = arm.camera_model(name).project(arm.positions[thing])
                            if len(shown) < 2 or not ((point > 0) & (point < SIZE - 1)).all():
                                continue  # hidden by another thing, or not in the picture
                            u, v = np.rint(point).astype(int)
                            if [u, v] in pixels_of(seen, model, "GEOM", robot).tolist():
                                continue  # the arm is in the way
                            assert distance(shown, point) <= 2.0, (thing, name, point)
                            checked[thing] += 1
                arm.step(arm.commanded + np.array([0.02, 0.02, 0.01, 0.0]))
    assert set(checked) == {"tool", "object", "goal"} | ({"object_2"} if len(OBJECTS[task]) > 1 else set())
    assert all(count >= 16 for thing, count in checked.items() if thing != "tool"), checked  # of 32


def test_two_cameras_are_closer_than_the_default() -> None:
    closer = [camera for camera in CAMERAS.values() if camera.distance < CAMERAS["front"].distance]
    assert len(closer) == 2
    assert CAMERAS["front"] == type(CAMERAS["front"])()


def test_the_first_of_many_cameras_gives_the_pictures_that_it_gives_alone(spec: RobotSpec) -> None:
    """Data with more cameras are the data of today and more."""
    behaviour = [make_behaviour("noisy", spec, "push-v3", np.random.default_rng(0)) for _ in range(2)]
    alone = run_episode(MetaWorldArm(spec, "push-v3"), behaviour[0], "e", "noisy", 5, 6)
    among = run_episode(MetaWorldArm(spec, "push-v3", ("close", "front")), behaviour[1], "e", "noisy", 5, 6)
    assert list(alone.images) == ["front"]
    assert list(among.images) == ["close", "front"]
    assert np.array_equal(alone.images["front"], among.images["front"])
    assert not np.array_equal(among.images["front"], among.images["close"])
    assert np.array_equal(alone.commanded, among.commanded)
    assert alone.cameras["front"] == among.cameras["front"]


def test_collected_episodes_tell_rate_cameras_and_positions(spec: RobotSpec, tmp_path: Path) -> None:
    plan = CollectionPlan("stick-push-v3", {"random": [3]}, horizon=5, cameras=("left", "close"), image_size=48)
    collect_task(spec, plan, tmp_path)
    [episode] = load_episodes(tmp_path)
    assert episode.rate_hz == spec.rate_hz
    assert {name: frames.shape for name, frames in episode.images.items()} == dict.fromkeys(plan.cameras, (5, 48, 48, 3))
    assert {name: camera.width for name, camera in episode.cameras.items()} == {"left": 48, "close": 48}
    assert set(episode.positions) == {"tool", "object", "object_2", "goal"}
    assert np.array_equal(episode.positions["tool"], episode.state[:, :3])


def test_cameras_that_do_not_exist_are_refused_with_the_valid_ones(spec: RobotSpec) -> None:
    with pytest.raises(UnknownNameError, match="valid: close, close_left, far, front"):
        MetaWorldArm(spec, "push-v3", ("frontal",))
    with pytest.raises(UnknownNameError, match="unknown camera of the simulated arm 'left'; valid: front"):
        MetaWorldArm(spec, "push-v3").camera_model("left")

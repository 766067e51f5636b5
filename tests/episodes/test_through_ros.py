"""The same episode twice, through the ROS nodes, log and dataset, and in the simulator directly: they are the same."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from learning.episode_store import load_episodes
from tests.episodes.fake_robot import spec

ROOT = Path(__file__).parents[2]
TASK, SEED = "button-press-topdown-v3", 3


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_episode_through_ros_and_mcap_is_the_one_of_the_simulator(tmp_path: Path) -> None:
    if not all(map(find_spec, ("rclpy", "metaworld", "lerobot"))):
        pytest.skip("needs the extras ros, sim and train")
    from robot_stack.drivers.sim_collect import CollectionPlan, collect_task
    from robot_stack.episodes.to_lerobot import convert

    command = [sys.executable, "-m", "robot_stack.cli", "record", "--behaviour", "expert", "--task", TASK]
    command += ["--seeds", f"{SEED}:{SEED + 1}", "--out", str(tmp_path / "logs")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    convert([tmp_path / "logs"], tmp_path / "data")
    collect_task(spec(), CollectionPlan(TASK, {"expert": [SEED]}), tmp_path / "direct")

    [recorded], [direct] = load_episodes(tmp_path / "data", spec=spec()), load_episodes(tmp_path / "direct", spec=spec())
    for name in ("instruction", "task", "source", "success", "first_success", "rate_hz"):
        assert getattr(recorded, name) == getattr(direct, name), name
    assert set(recorded.cameras) == set(direct.cameras) == {"front"}
    ours, theirs = recorded.cameras["front"], direct.cameras["front"]
    assert (ours.T_base_camera, ours.k.tolist()) == (theirs.T_base_camera, theirs.k.tolist())
    assert np.array_equal(recorded.images["front"], direct.images["front"])
    for name in ("state", "commanded", "deltas"):
        np.testing.assert_allclose(getattr(recorded, name), getattr(direct, name), atol=1e-6, err_msg=name)

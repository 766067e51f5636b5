"""Episodes through the nodes: complete, exactly those of the simulator itself, and resumable."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from mcap.reader import make_reader

from robot_stack import operate
from robot_stack.bringup import Setup
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.seeding import generator
from robot_stack.drivers.behaviours import make_behaviour
from robot_stack.drivers.sim_collect import run_episode
from robot_stack.drivers.sim_metaworld import MetaWorldArm
from robot_stack.episodes.decoder import EpisodeDecoder
from robot_stack.episodes.log_reader import EpisodeLog
from robot_stack.episodes.meta import Label
from robot_stack.paths import robot_file
from robot_stack.ros.episode_runner import running_robot
from robot_stack.ros.processes import NodeDiedError
from tests.ros.conftest import needs_simulator, until

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300), needs_simulator]
TASK = "button-press-topdown-v3"
HORIZON = 22  # the expert needs about 16


def counts(log: Path) -> dict[str, int]:
    with log.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None and summary.statistics is not None
    return {summary.channels[key].topic: count for key, count in summary.statistics.channel_message_counts.items()}


def test_recorded_episodes_are_those_of_the_simulator(tmp_path: Path) -> None:
    """Not one message lost, and pictures, targets and outcome equal to the same behaviour without ROS."""
    command = ["--behaviour", "noisy", "--seeds", "0:2", "--horizon", str(HORIZON), "--out", str(tmp_path)]
    assert operate.record_main(command) == 0
    spec = RobotSpec.load(robot_file("sim_metaworld"))
    arm = MetaWorldArm(spec, TASK)
    logs = sorted(tmp_path.glob("*.mcap"))
    assert [log.name for log in logs] == [f"{TASK}.noisy.{seed:06d}.mcap" for seed in range(2)]
    for seed, path in enumerate(logs):
        found = counts(path)
        seldom = ("/task", "/camera/front/pose", "/diagnostics")
        once_a_tick = {topic: count for topic, count in found.items() if topic not in seldom}
        assert found["/camera/front/pose"] == 1  # it does not move
        assert set(once_a_tick.values()) == {HORIZON, HORIZON + 1}
        assert once_a_tick.pop("/evaluation/success") == HORIZON + 1  # and the verdict after the last
        assert len(once_a_tick) == 13 and found["/task"] >= 1

        behaviour = make_behaviour("noisy", spec, TASK, generator("collect", TASK, "noisy", seed), 1.0)
        direct = run_episode(arm, behaviour, "direct", "noisy", seed, HORIZON)
        log = EpisodeLog.open(path)
        assert log.meta.seed == seed and log.meta.source == "noisy" and log.meta.fingerprint == spec.fingerprint
        assert log.label is (Label.SUCCESS if direct.success else Label.FAILURE)
        decoder = EpisodeDecoder(log)
        rows = list(decoder.rows())
        np.testing.assert_array_equal([row.observation.images["front"] for row in rows], direct.images["front"])
        np.testing.assert_allclose([row.observation.state for row in rows], direct.state, atol=1e-6)
        np.testing.assert_allclose([row.tick.commanded for row in rows], direct.commanded, atol=1e-6)
        first = next((k for k, row in enumerate(rows) if row.tick.success), None)
        assert first == direct.first_success
        assert decoder.instruction == "button press topdown"

    before = [log.stat().st_mtime_ns for log in logs]
    assert operate.record_main(command) == 0  # nothing is left to do, so nothing is started
    assert [log.stat().st_mtime_ns for log in logs] == before


def test_early_end_another_task_and_a_dead_node(tmp_path: Path) -> None:
    setup = Setup(source="behaviour", task=TASK, lock_step=True, horizon=40, stop_at_success=True)
    with running_robot(setup, tmp_path) as robot:
        outcomes = [robot.run(seed) for seed in range(3)]
        for outcome in outcomes:
            assert outcome.success and outcome.ticks == outcome.first_success and 10 < outcome.ticks < 30
        assert outcomes[0] == robot.run(0)  # a start is a start, whatever came before

        robot.processes.kill("teleop")
        with pytest.raises(NodeDiedError, match="node teleop was ended by SIGKILL"):
            robot.run(4)
    until(lambda: not robot.processes.pids, "end of every process")

"""LeRobot's robot client with the marked robot.

`python -m benchmarks.lerobot_side.client PORT FPS SECONDS POLICY FILMS NOTES`
"""

import sys
import threading
from collections.abc import Sequence

from lerobot.async_inference.configs import RobotClientConfig
from lerobot.async_inference.robot_client import RobotClient

from benchmarks.lerobot_side.config_marked_robot import MarkedRobotConfig
from benchmarks.lerobot_side.configuration_circle import CircleConfig

ANSWER_S = 5.0


def main(argv: Sequence[str]) -> int:
    port, fps, seconds, policy, films, notes = argv
    config = RobotClientConfig(
        policy_type=CircleConfig().type,
        pretrained_name_or_path=policy,
        robot=MarkedRobotConfig(films=films, notes=notes),
        actions_per_chunk=50,
        task="circle",
        server_address=f"127.0.0.1:{port}",
        chunk_size_threshold=0.5,
        fps=int(fps),
        aggregate_fn_name="latest_only",  # an average of two actions bears no mark
    )
    client = RobotClient(config)
    if not client.start():
        print("the policy server does not answer", file=sys.stderr)
        return 1
    receiver = threading.Thread(target=client.receive_actions, daemon=True)
    receiver.start()
    threading.Timer(float(seconds), client.shutdown_event.set).start()
    client.control_loop(task=config.task)
    receiver.join(ANSWER_S)  # it waits for an answer of the server, which the end of its channel would cut off
    client.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

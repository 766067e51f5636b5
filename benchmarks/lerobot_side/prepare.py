"""The folder from which LeRobot's server loads the policy.

`python -m benchmarks.lerobot_side.prepare FOLDER SCRIPT RATE_HZ`
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lerobot.processor.factory import make_default_pre_post_processors

from benchmarks.lerobot_side.configuration_circle import CircleConfig


def main(argv: Sequence[str]) -> int:
    folder = Path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    config = CircleConfig(script=argv[1], rate_hz=float(argv[2]))
    config.save_pretrained(folder)
    for pipeline in make_default_pre_post_processors(config):
        pipeline.save_pretrained(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

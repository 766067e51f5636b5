"""The loop over three toy stages, as a program that tests can kill: toy_loop.py RUN SECONDS."""

import sys
from pathlib import Path

from robot_stack.run_dir import stage_dir
from robot_stack.stages import Manifest, Stage, run_stages

PROGRAM = (sys.executable, str(Path(__file__).with_name("toy_stage.py")))


def toy_stages(run: Path, seconds: float = 0.0, names: tuple[str, ...] = ("first", "second", "third")) -> list[Stage]:
    """Each stage reads what the one before wrote; the first reads ``source.txt``."""
    stages: list[Stage] = []
    source = run / "source.txt"
    for name in names:
        out = stage_dir(run, 0, name)
        stages.append(Stage(name, 0, (name, str(out), str(seconds), str(source)), out, (source,)))
        source = out / "result.txt"
    return stages


def run_toys(run: Path, seconds: float = 0.0, names: tuple[str, ...] = ("first", "second", "third")) -> list[Manifest]:
    return run_stages(toy_stages(run, seconds, names), run, PROGRAM)


if __name__ == "__main__":
    run_toys(Path(sys.argv[1]), float(sys.argv[2]))

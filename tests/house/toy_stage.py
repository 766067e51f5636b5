"""A stage of the loop that does nothing useful, slowly and resumably: reads files, counts to ten, writes what it read."""

import json
import os
import sys
import time
from pathlib import Path

STEPS = 10


def main(name: str, out: Path, seconds: float, inputs: list[Path]) -> int:
    out.mkdir(parents=True, exist_ok=True)
    progress = out / "progress"
    step = int(progress.read_text()) if progress.exists() else 0
    journal = out.parent / "journal.txt"
    with journal.open("a") as stream:
        stream.write(f"{name} from {step} pid {os.getpid()}\n")
    for done in range(step, STEPS):
        time.sleep(seconds / STEPS)
        partial = out / "progress.partial"  # like every stage, the toy can be killed between any two instructions
        partial.write_text(str(done + 1))
        partial.replace(progress)
    total = sum(len(path.read_text()) for path in inputs)
    (out / "result.txt").write_text(f"{name} {total}")
    (out / "figures.json").write_text(json.dumps({"total": total}))
    print(f"{name} is done")
    return 3 if name == "broken" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), [Path(path) for path in sys.argv[4:]]))

"""What the page about ways of pictures says of known repetitions."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra")

from benchmarks.transport import page


def test_pictures_are_summed_and_times_are_medians_of_the_repetitions(tmp_path: Path) -> None:
    late_ms = [float(number) for number in range(1, 101)]
    repetitions = [
        {"came": [50, 25], "lost": [0.0, 25.0], "late_ms": late_ms},
        {"came": [50, 50], "lost": [0.0, 0.0], "late_ms": [10 * value for value in late_ms]},
        {"came": [0, 25], "lost": [0.0, 0.0], "late_ms": [2 * value for value in late_ms]},
    ]
    *_, row = page(tmp_path, {"ours, best_effort": repetitions})
    assert row == "| ours, best effort | 3 | 200 | 25 (11.1 %) | 100.0 | 198.0 | 200.0 |"

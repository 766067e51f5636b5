"""The shipped weights: what they saw, that they fit the embedded robot, and how large they are."""

from world_model.held_out import refuse_held_out
from world_model.train import SHIPPED, read_weights


def test_shipped_weights_saw_no_held_out_task(spec):
    prophet = read_weights("shipped")
    assert len(prophet.manifest.tasks) >= 30
    refuse_held_out(prophet.manifest.tasks)
    assert (SHIPPED / "tasks_seen.txt").read_text(encoding="utf-8").split() == list(prophet.manifest.tasks)
    prophet.check_robot(spec)


def test_shipped_files_are_small():
    assert all(file.stat().st_size < 20 * 2**20 for file in SHIPPED.iterdir())
    assert not list(SHIPPED.glob("*.partial"))

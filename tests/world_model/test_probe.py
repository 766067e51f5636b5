"""The probe reads known places: a square that stands where the episode says, drawn or imagined."""

import numpy as np
import pytest

from learning.episode import Episode
from learning.fitting import FitSettings
from learning.seeding import generator
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError
from tests.world_model.conftest import square_episode
from world_model.probe import Probe, ProbeSettings, load_probe, save_probe, train_probe
from world_model.probe_figures import contact_frames, contact_table, probe_figures, probe_table

SIZE, FRAMES = 24, 6
SETTINGS = ProbeSettings(
    width=8, noise=0.01, validation_every=5, fit=FitSettings(steps=300, batch_size=32, lr=3e-3, warmup=10, ema_decay=0.95)
)


def picture(place: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A red square for the object and a green one for the tool; 1 m is 50 px, x to the right, y down."""
    image = np.full((SIZE, SIZE, 3), 60, dtype=np.uint8)
    for (x, y, _), colour in ((place, (220, 40, 40)), (other, (40, 220, 40))):
        column, row = round(12 + 50 * x), round(12 + 50 * y)
        image[row - 2 : row + 3, column - 2 : column + 3] = colour
    return image


def scene(seed: int, second: bool = False) -> Episode:
    """Tool and object wander on whole pixels; the object from frame 3 on only."""
    random = generator("scene", seed)
    tool = np.column_stack([random.integers(-9, 10, size=(FRAMES, 2)) / 50, np.full(FRAMES, 0.1)])
    thing = np.repeat(np.append(random.integers(-9, 6, size=2) / 50, 0.02)[None], FRAMES, axis=0)
    thing[3:, 0] += 0.06
    positions = {"tool": tool, "object": thing, "goal": np.zeros((FRAMES, 3))} | ({"object_2": tool + 0.01} if second else {})
    zeros = np.zeros((FRAMES, 4), dtype=np.float32)
    return Episode(
        name=f"scene.{seed}",
        images={"front": np.stack([picture(a, b) for a, b in zip(thing, tool, strict=True)])},
        state=zeros,
        commanded=zeros,
        deltas=zeros,
        instruction="",
        positions={name: track.astype(np.float32) for name, track in positions.items()},
    )


@pytest.fixture(scope="module")
def probe() -> Probe:
    return train_probe([scene(seed) for seed in range(120)], "front", SIZE, SETTINGS, run=0, progress=False)


def test_it_reads_true_places_of_episodes_it_was_not_taught(probe):
    assert probe.things == ("tool", "object")  # the goal is not read
    fresh = scene(10_000)
    read = probe.read(fresh.images["front"])
    for thing in probe.things:
        assert read[thing].shape == (FRAMES, 3)
        assert np.median(np.linalg.norm(read[thing] - fresh.positions[thing], axis=1)) < 0.03
    assert 0 < probe.errors_cm["object"] < 3.0


def test_contact_frames_begin_where_the_object_was_first_moved():
    assert contact_frames(scene(0)).tolist() == [False, False, False, True, True, True]
    back = scene(0)
    back.positions["object"][5] = back.positions["object"][0]  # it has been touched all the same
    assert contact_frames(back)[5]
    assert not contact_frames(square_episode(0)).any()


def test_figures_tell_true_video_from_one_that_shows_the_object_elsewhere(probe):
    episodes = [scene(seed) for seed in range(500, 520)]
    true = [episode.images["front"] for episode in episodes]
    figures = probe_figures(probe, episodes, true, horizons=(1, 4))
    assert figures["object"]["imagined_4"] == figures["object"]["true_4"]
    assert figures["object"]["contact_frames"] == 3 * len(episodes)
    stays = [  # the tool goes where it should, the object is not pushed
        np.stack([picture(e.positions["object"][0], tool) for tool in e.positions["tool"]]) for e in episodes
    ]
    wrong = probe_figures(probe, episodes, stays, horizons=(1, 4))
    assert wrong["object"]["imagined_1"] == figures["object"]["imagined_1"]
    assert wrong["object"]["imagined_contact"] == pytest.approx(6.0, abs=2.0)  # it was pushed by 6 cm
    assert wrong["object"]["copy_last"] == pytest.approx(6.0, abs=2.0)
    assert wrong["tool"]["imagined_last"] < 3.0 < wrong["tool"]["copy_last"]
    blurred = probe_figures(probe, episodes, true, horizons=(1, 4), rebuilt=stays)
    assert blurred["object"]["rebuilt_contact"] == wrong["object"]["imagined_contact"]
    lines = probe_table(blurred).splitlines()
    assert len(lines) == 1 + 2 * 4 and "contact" in lines[1]
    assert contact_table({"biased": wrong, "frozen": figures}).splitlines()[2].split()[-1] == "60"


def test_short_imagined_video_counts_at_its_own_last_frame(probe):
    episode = scene(3)
    figures = probe_figures(probe, [episode], [episode.images["front"][:3]], horizons=(1, 4))["object"]
    assert "imagined_4" not in figures and figures["imagined_last"] == figures["true_last"]
    assert figures["contact_frames"] == 0 and np.isnan(figures["imagined_contact"])


def test_a_thing_that_only_some_episodes_know_is_taught_by_those():
    quick = ProbeSettings(width=8, validation_every=0, fit=FitSettings(steps=3, batch_size=8, lr=1e-3))
    mixed = train_probe([scene(0), scene(1, second=True)], "front", SIZE, quick, run=0, progress=False)
    assert mixed.things == ("tool", "object", "object_2")
    assert np.isfinite(mixed.read(scene(0).images["front"])["object_2"]).all()
    assert "object_2" not in probe_figures(mixed, [scene(0)], [scene(0).images["front"]])


def test_a_saved_probe_reads_the_same(probe, tmp_path):
    save_probe(probe, tmp_path / "probe")
    again = load_probe(tmp_path / "probe")
    images = scene(7).images["front"]
    np.testing.assert_array_equal(again.read(images)["object"], probe.read(images)["object"])
    assert again.errors_cm == probe.errors_cm and again.settings == probe.settings
    [weights] = (tmp_path / "probe").glob("probe.*.safetensors")
    weights.write_bytes(b"not weights")
    with pytest.raises(BadFileError, match=weights.name):
        load_probe(tmp_path / "probe")


def test_what_it_cannot_use_is_refused(probe):
    with pytest.raises(ShapeError, match="24"):
        probe.read(np.zeros((1, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ProphRLError, match="positions"):
        train_probe([square_episode(0)], "front", SIZE, SETTINGS, run=0)

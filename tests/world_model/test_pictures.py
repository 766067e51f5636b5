"""Pictures are read again: a film decodes to what was put in, a flow's colour says where it goes, a sheet holds every frame."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.world_model.test_metrics import moving
from world_model.pictures import (
    CAPTION,
    GAP,
    LABEL,
    contact_sheet,
    film,
    flow_picture,
    frames_shown,
    write_film,
    write_pictures,
)

TRUE = moving(10)
IMAGINED = np.repeat(TRUE[:1], 6, axis=0)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        return stream.average_rate, np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def test_a_film_decodes_to_its_frames(tmp_path):
    frames = film(TRUE, IMAGINED)
    write_film(frames, tmp_path / "a.mp4", rate=10)
    rate, again = decoded(tmp_path / "a.mp4")
    assert rate == Fraction(10)
    assert again.shape == frames.shape
    assert np.abs(again.astype(int) - frames).mean() < 4.0  # grey levels; colours are stored at half the resolution
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_panels_are_true_imagined_and_both_flows():
    frames = film(TRUE, IMAGINED)
    assert len(frames) == 6
    width = 3 * 64 + GAP
    panels = [frames[4, CAPTION:, i * width : i * width + 3 * 64][: 3 * 64 : 3, ::3] for i in range(4)]
    np.testing.assert_array_equal(panels[0], TRUE[4])
    np.testing.assert_array_equal(panels[1], IMAGINED[4])
    assert panels[2][8:-8, 8:-8].mean() > 20 and panels[3].max() == 0  # the imagined video stands still
    red, green, blue = (np.median(panels[2][8:-8, 8:-8, channel]) for channel in range(3))
    assert red > 2 * max(green, blue)  # it moves to the right


@pytest.mark.parametrize(("flow", "colour"), [((3, 0), (255, 0, 0)), ((-3, 0), (0, 255, 255)), ((0, 0), (0, 0, 0))])
def test_colours_of_a_flow(flow, colour):
    picture = flow_picture(np.full((4, 4, 2), flow, dtype=np.float32), full=3.0)
    assert picture[2, 2].tolist() == list(colour)
    assert flow_picture(np.full((4, 4, 2), flow, dtype=np.float32), full=6.0).max() == pytest.approx(max(colour) / 2, abs=1)


def test_the_sheet_shows_every_episode_up_to_its_end():
    sheet = np.asarray(contact_sheet([TRUE, TRUE[:5]], [TRUE, IMAGINED], ["one", "two.with.a.name.that.is.long"]))
    assert frames_shown(10) == [0, 1, 4, 8, 9]
    column, row = 64 + GAP, 2 * 64 + 3 * GAP

    def cell(episode, kind, index):
        top = CAPTION + episode * row + kind * (64 + GAP)
        return sheet[top : top + 64, LABEL + index * column : LABEL + index * column + 64]

    np.testing.assert_array_equal(cell(0, 0, 4), TRUE[9])
    np.testing.assert_array_equal(cell(1, 1, 2), IMAGINED[4])
    assert (cell(1, 0, 3) == 255).all()  # the second has no frame 8
    for episode in range(2):
        assert (sheet[CAPTION + episode * row : CAPTION + (episode + 1) * row, :LABEL] < 128).any()  # its name


def test_files_of_two_episodes(tmp_path):
    write_pictures([TRUE, TRUE], [TRUE, IMAGINED], ["one", "two"], tmp_path / "pictures")
    written = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert written == ["contact_sheet.png", "one.mp4", "one.png", "two.mp4", "two.png"]

"""The study of picture sizes: every grid is a row, with what the probe reads of it."""

from benchmarks.picture_size import GRIDS, MEASURES, page


def test_the_page_has_a_row_for_each_camera_and_grid():
    rows = [
        {"task": "push-v3", "camera": camera, "picture": str(picture), "cell": str(cell), "seed": "0"}
        | {name: str(100 * place + column) for column, name in enumerate(MEASURES)}
        for place, (camera, (picture, cell)) in enumerate((c, g) for c in ("front", "close") for g in GRIDS)
    ]
    text = "\n".join(page(rows, 10))
    assert "| front | 64 | 16 x 16 | 100.00 | 101.00 | 102.00 | 103.00 | 104.00 |" in text
    assert "| close | 96 | 24 x 24 | 700.00 | 701.00 | 702.00 | 703.00 | 704.00 |" in text
    assert sum(line.startswith(("| front", "| close")) for line in text.splitlines()) == 2 * len(GRIDS)

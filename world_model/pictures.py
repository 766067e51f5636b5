"""Imagined video for people: films (true, imagined, and the flow of both), strips of frames, and one sheet of all.

Shapes: T = frames, videos [T, H, W, 3] uint8 RGB, flow [T - 1, H, W, 2] in pixels a frame.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from world_model.measure import Video
from world_model.metrics import Flow, speed_of, video_flow

STRIP_FRAMES = (0, 1, 4, 8, 12, 16, 20, 25)
GAP = 2  # white pixels between pictures
PANEL = 192  # px, the least width of a picture in a film
CAPTION = 20  # px, the line above the pictures
LABEL = 150  # px, the names beside the rows of the sheet
FILM_RATE = 10  # frames a second: half the speed of the embedded robot
QUALITY = "18"  # H.264's constant rate factor: no loss that one sees
FULL_COLOUR = 3.0  # px a frame at which the colour of a flow is full, in a picture of 64 px; larger in larger ones


def write_pictures(true: Sequence[Video], imagined: Sequence[Video], names: Sequence[str], folder: Path) -> None:
    """``<name>.mp4`` and ``<name>.png``, true frames above imagined ones, of each, and ``contact_sheet.png`` of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for real, dreamt, name in zip(true, imagined, names, strict=True):
        write_film(film(real, dreamt), folder / f"{name}.mp4")
        shown = frames_shown(min(len(real), len(dreamt)))
        rows = [_row(real[shown]), _row(dreamt[shown])]
        Image.fromarray(np.concatenate([rows[0], _gap(rows[0], 0), rows[1]])).save(folder / f"{name}.png")
    contact_sheet(true, imagined, names).save(folder / "contact_sheet.png")


def film(true: Video, imagined: Video) -> Video:
    """True | imagined | flow of the true video | flow of the imagined one, with captions; as long as the shorter video.

    The flow's hue is its direction, its brightness its speed: where the two right pictures differ, something moves that should
    not, or the other way round.
    """
    length = min(len(true), len(imagined))
    height, width = true.shape[1:3]
    factor = max(1, -(-PANEL // width))
    flows = [_flow_pictures(video[:length]) for video in (true, imagined)]
    frames = []
    for t in range(length):
        panels = [true[t], imagined[t], flows[0][t], flows[1][t]]
        sharp = [np.repeat(np.repeat(panel, factor, axis=0), factor, axis=1) for panel in panels]
        page = Image.new("RGB", (_even(4 * (width * factor + GAP)), _even(height * factor + CAPTION)), "white")
        draw = ImageDraw.Draw(page)
        for column, (panel, title) in enumerate(
            zip(sharp, (f"true {t}", "imagined", "flow, true", "flow, imagined"), strict=True)
        ):
            left = column * (width * factor + GAP)
            draw.text((left + 4, 2), title, fill="black", font=_font(13))
            page.paste(Image.fromarray(panel), (left, CAPTION))
        frames.append(np.asarray(page))
    return np.stack(frames)


def write_film(frames: Video, path: Path, rate: int = FILM_RATE) -> None:
    """An MP4 (H.264) of ``frames`` [T, H, W, 3], height and width even; browsers play it."""
    import av

    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": "fast"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    partial.replace(path)


def flow_picture(flow: Flow, full: float) -> npt.NDArray[np.uint8]:
    """Colours [H, W, 3] of a flow [H, W, 2]: hue is the direction (right is red), brightness the speed, full at ``full`` px."""
    angle = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360.0
    hsv = np.stack([angle / 2.0, np.full_like(angle, 255.0), np.clip(speed_of(flow) / full, 0.0, 1.0) * 255.0], axis=-1)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), dtype=np.uint8)


def contact_sheet(true: Sequence[Video], imagined: Sequence[Video], names: Sequence[str]) -> Image.Image:
    """All episodes below each other: true frames above imagined ones, their names on the left, frame numbers on top."""
    height, width = true[0].shape[1:3]
    lengths = [min(len(real), len(dreamt)) for real, dreamt in zip(true, imagined, strict=True)]
    columns = frames_shown(max(lengths))
    row = 2 * height + 3 * GAP
    sheet = Image.new("RGB", (LABEL + len(columns) * (width + GAP), CAPTION + len(names) * row), "white")
    draw = ImageDraw.Draw(sheet)
    for column, t in enumerate(columns):
        draw.text((LABEL + column * (width + GAP) + width // 2, 4), str(t), fill="black", font=_font(12), anchor="ma")
    for index, (real, dreamt, name, length) in enumerate(zip(true, imagined, names, lengths, strict=True)):
        top = CAPTION + index * row
        for line, part in enumerate(_lines(name)):
            draw.text((4, top + 2 + 12 * line), part, fill="black", font=_font(11))
        for kind, video, offset in (("true", real, 0), ("imagined", dreamt, height + GAP)):
            draw.text((LABEL - 4, top + offset + height - 4), kind, fill="grey", font=_font(10), anchor="rs")
            for column, t in enumerate(columns):
                if t < length:
                    sheet.paste(Image.fromarray(video[t]), (LABEL + column * (width + GAP), top + offset))
    return sheet


def frames_shown(length: int) -> list[int]:
    """Which frames of a video of ``length`` are shown beside each other; its last one always."""
    return sorted({frame for frame in STRIP_FRAMES if frame < length} | {length - 1})


def _flow_pictures(video: Video) -> list[npt.NDArray[np.uint8]]:
    """The flow that led to each frame; black at the first."""
    full = FULL_COLOUR * video.shape[2] / 64.0
    return [np.zeros_like(video[0]), *(flow_picture(flow, full) for flow in video_flow(video))]


def _lines(name: str, longest: int = 22) -> list[str]:
    """A long name in pieces that fit beside the sheet's rows."""
    return [name[i : i + longest] for i in range(0, len(name), longest)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _even(pixels: int) -> int:
    return pixels + pixels % 2


def _row(images: Video) -> Video:
    """Images [N, H, W, 3] beside each other, with gaps."""
    parts: list[Video] = [images[0]]
    for image in images[1:]:
        parts += [_gap(image, 1), image]
    return np.concatenate(parts, axis=1)


def _gap(image: Video, axis: int) -> Video:
    shape = list(image.shape)
    shape[axis] = GAP
    return np.full(shape, 255, dtype=np.uint8)

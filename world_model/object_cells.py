"""Where in a picture the objects are, in latent cells: small things, on which success depends, weigh little in its error.

Known where the episode knows positions (a simulator, or a tracker) and its camera is calibrated. Shapes: F = frames.
"""

import numpy as np
import torch
from torch import Tensor

from learning.episode import Episode

OBJECTS = ("object", "object_2")
SPREAD = 1.0  # std of an object's blob, in cells


def object_cells(episode: Episode, camera: str, size: int) -> Tensor | None:
    """How much each cell belongs to an object, 0 to 1 [F, size, size]; None where that is not known."""
    model = episode.cameras.get(camera)
    tracks = [episode.positions[thing] for thing in OBJECTS if thing in episode.positions]
    if model is None or not tracks:
        return None
    centres = np.arange(size)
    cells = np.zeros((len(episode), size, size))
    for track in tracks:
        places, _ = model.scaled(size, size).project(np.asarray(track, dtype=np.float64))
        across = (centres - places[:, :1]) ** 2
        down = (centres - places[:, 1:]) ** 2
        blob = np.exp(-(down[:, :, None] + across[:, None, :]) / (2.0 * SPREAD**2))
        cells = np.maximum(cells, np.nan_to_num(blob))
    return torch.from_numpy(cells).float()

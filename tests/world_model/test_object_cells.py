"""Where objects are in latent cells, with known answers."""

import dataclasses

import numpy as np
import pytest

from robot_stack.core.camera import CameraModel, Pose
from world_model.object_cells import object_cells

LENS = np.array([[64.0, 0.0, 31.5], [0.0, 64.0, 31.5], [0.0, 0.0, 1.0]])  # the middle of 64 px; pixel centres are whole


def seen(episode, tracks, calibrated=True):
    length = len(episode)
    cameras = {"front": CameraModel(64, 64, LENS, Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))} if calibrated else {}
    positions = {thing: np.tile(np.float32(place), (length, 1)) for thing, place in tracks.items()}
    images = {"front": np.zeros((length, 64, 64, 3), dtype=np.uint8)}
    return dataclasses.replace(episode, images=images, cameras=cameras, positions=positions)


def test_an_object_lies_in_the_cell_that_shows_it(episodes):
    # One metre ahead, 13/64 m to the right and 11/64 m up: pixel (44.5, 20.5), cell (10.75, 4.75) of 16 with whole centres.
    cells = object_cells(seen(episodes[0], {"object": (13 / 64, -11 / 64, 1.0)}), "front", 16)
    assert cells.shape == (len(episodes[0]), 16, 16)
    row, column = divmod(int(cells[0].argmax()), 16)
    assert (row, column) == (5, 11)
    assert cells[0, 5, 11].item() == pytest.approx(np.exp(-(0.25**2 + 0.25**2) / 2))
    assert cells[0, 5, 5].item() < 1e-6


def test_both_objects_count_and_neither_tool_nor_goal(episodes):
    two = object_cells(seen(episodes[0], {"object": (0.25, 0.0, 1.0), "object_2": (-0.25, 0.0, 1.0)}), "front", 16)
    one = object_cells(seen(episodes[0], {"object": (0.25, 0.0, 1.0), "tool": (-0.25, 0.0, 1.0)}), "front", 16)
    assert two[0, :, :8].max() > 0.5 and one[0, :, :8].max() < 1e-3
    behind = object_cells(seen(episodes[0], {"object": (0.0, 0.0, -1.0)}), "front", 16)
    assert not behind.any()


def test_without_positions_or_calibration_nothing_is_known(episodes):
    assert object_cells(seen(episodes[0], {"goal": (0.0, 0.0, 1.0)}), "front", 16) is None
    assert object_cells(seen(episodes[0], {"object": (0.0, 0.0, 1.0)}, calibrated=False), "front", 16) is None

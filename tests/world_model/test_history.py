"""Which frames of the past Prophet looks back on."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from world_model.condition import HistoryFrames
from world_model.history import History, choose
from world_model.history_tokens import HistoryTokens, level_of, token_count
from world_model.sizes import HistorySettings, ProphetSettings


def test_frames_are_chosen_by_the_way_travelled():
    arcs = torch.tensor([[0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0]])  # a pause in the middle
    columns, valid = choose(arcs, torch.ones_like(arcs, dtype=torch.bool), (0,), HistorySettings(4, "arc", 1.0))
    assert columns.tolist() == [[6, 5, 2, 1]]  # the pause fills one place, not three
    assert valid.all()
    columns, valid = choose(arcs, torch.ones_like(arcs, dtype=torch.bool), (0,), HistorySettings(3, "arc", 2.0))
    assert columns.tolist() == [[5, 1, 0]]
    assert valid.tolist() == [[True, True, False]]


def test_frames_are_chosen_by_time_and_older_than_those_given():
    arcs = torch.zeros(1, 8)
    exist = torch.tensor([[False, False, True, True, True, True, True, True]])
    columns, valid = choose(arcs, exist, (-1, 0), HistorySettings(3, "time", 2.0))
    assert columns.tolist() == [[5, 3, 1]]
    assert valid.tolist() == [[True, True, False]]
    columns, _ = choose(arcs, exist, (-3, 0), HistorySettings(2, "time", 1.0))
    assert columns.tolist() == [[3, 2]]


@given(
    st.lists(st.floats(0.0, 5.0), min_size=9, max_size=9),
    st.integers(0, 8),
    st.sampled_from(["arc", "time"]),
    st.floats(0.5, 4.0),
)
def test_chosen_frames_exist_lie_in_the_past_and_grow_older(steps, missing, by, step):
    arcs = torch.cumsum(torch.tensor([[0.0, *steps]]), dim=1)
    exist = torch.arange(10)[None] >= missing
    arcs[~exist] = arcs[0, missing]
    columns, valid = choose(arcs, exist, (-1, 0), HistorySettings(5, by, step))
    chosen = columns[valid].tolist()
    assert chosen == sorted(set(chosen), reverse=True)
    assert all(missing <= column < 8 for column in chosen)
    if by == "arc":
        for place in range(5):
            if valid[0, place]:
                assert arcs[0, -1] - arcs[0, columns[0, place]] >= (place + 1) * step - 1e-4


def test_history_forgets_what_is_older_than_its_span():
    settings = ProphetSettings(context_offsets=(-1, 0), history=HistorySettings(2, "time", 1.0, span=3))
    number = lambda *values: torch.tensor(values, dtype=torch.float32)[None, :, None, None, None]  # noqa: E731
    exist = torch.tensor([[False, False, True, True]])
    history = History(settings, number(0, 0, 0, 1), torch.zeros(1, 4, 14), torch.tensor([[0.0, 0, 0, 1]]), exist)
    assert history.context().flatten().tolist() == [0, 1]
    assert not history.looked_back().valid.any()
    history.push(number(2, 3), torch.ones(1, 2, 14), torch.ones(1, 2))
    assert history.context().flatten().tolist() == [2, 3]
    back = history.looked_back()
    assert back.latents.flatten().tolist() == [1, 0]
    assert back.ages.tolist() == [[2, 3]]
    assert back.valid.all()
    assert history.poses().flatten(1).unique().tolist() == [1.0]
    for _ in range(5):
        history.push(number(4, 5), torch.ones(1, 2, 14), torch.ones(1, 2))
    assert history._frames.shape[1] == 4


def test_levels_grow_with_the_logarithm_of_the_age():
    assert [level_of(i) for i in range(8)] == [0, 1, 1, 2, 2, 2, 2, 2]
    assert token_count(6, 16, 16) == 64 + 2 * 16 + 3 * 4


def test_a_token_is_the_mean_of_its_cells_at_their_middle():
    tokens = HistoryTokens(channels=2, width=8)
    tokens.norm = torch.nn.Identity()
    latents = torch.randn(1, 2, 2, 8, 8)
    frames = HistoryFrames(latents, torch.tensor([[3, 7]]), torch.tensor([[True, False]]))
    made, places, valid = tokens(frames, present=4.0, unit=2.0, patch=2)
    assert made.shape == (1, 16 + 4, 8)
    expected = tokens.levels[0](latents[0, 0, :, :2, 2:4].mean(dim=(1, 2)))
    torch.testing.assert_close(made[0, 1], expected)
    torch.testing.assert_close(places[0, 1], torch.tensor([4.0 - 2.0 * 3, 0.0, 1.0]))
    torch.testing.assert_close(places[0, 16], torch.tensor([4.0 - 2.0 * 7, 0.5, 0.5]))  # four cells wide: between two patches
    assert valid[0].tolist() == [True] * 16 + [False] * 4

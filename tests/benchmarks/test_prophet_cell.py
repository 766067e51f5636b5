"""Trainings of studies: what cells share is what each would have made."""

import pytest
import torch

from benchmarks.prophet_cell import train_cell
from tests.world_model.conftest import square_episode

NOTHING = ("world_model.weights=none", "world_model.autoencoder.image_size=32")
SMALL = (
    "world_model.adapt.autoencoder.steps=2",
    "world_model.adapt.prophet.steps=1",
    "world_model.validation_every=0",
)


@pytest.mark.parametrize("begin", [NOTHING, ()])
def test_cells_that_share_a_tokenizer_have_the_one_that_each_would_have_trained(tmp_path, begin):
    episodes = [square_episode(seed) for seed in range(2)]
    alone = train_cell((*begin, *SMALL), episodes, 0, tmp_path / "alone").prophet
    for name, weight in (("first", 4.0), ("second", 0.0)):
        variant = (*begin, *SMALL, f"world_model.denoiser.moving_weight={weight}")
        sharing = train_cell(variant, episodes, 0, tmp_path / name, shared_tokenizer=tmp_path / "tokenizer").prophet
        assert sharing.scale == alone.scale
        for key, value in alone.tokenizer.state_dict().items():
            torch.testing.assert_close(sharing.tokenizer.state_dict()[key], value, rtol=0, atol=0)
        assert not (tmp_path / name / "autoencoder").exists()  # trained once, in the shared folder

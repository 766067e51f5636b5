"""Every variation of every study is one that `prophrl adapt` would take: a study would find out after hours."""

import pytest

from benchmarks import ablation, bridge, contact, few_shot, regression
from benchmarks.prophet_cell import settings_of
from world_model.autoencoder import Autoencoder
from world_model.checkpoint_parts import transformer_for

VARIATIONS = {
    **{f"regression, {name}": settings for name, settings in regression.FAMILIES.items()},
    **{f"ablation, {name}": settings for name, settings in ablation.VARIANTS.items()},
    **{f"contact, {name}": remedy.settings for name, remedy in contact.REMEDIES.items()},
    **{f"few shot, {start}": few_shot.overrides(start, 10, 1) for start in (few_shot.LORA, few_shot.FULL, few_shot.SCRATCH)},
    **{f"bridge, {start}": ["data=npz_clips", "data.path=clips", *bridge.settings_for(start)] for start in bridge.STARTS},
}


@pytest.mark.parametrize("name", VARIATIONS)
def test_networks_can_be_made(name: str) -> None:
    settings, _, _ = settings_of(["threads=1", *VARIATIONS[name]])
    assert settings.autoencoder is not None
    network = transformer_for(settings.transformer, Autoencoder(settings.autoencoder))
    assert network.config.chunk_length == settings.transformer.chunk_length


def test_variations_differ() -> None:
    for family in (regression.FAMILIES, ablation.VARIANTS):
        composed = [settings_of(["threads=1", *settings])[0] for settings in family.values()]
        assert all(one != other for number, one in enumerate(composed) for other in composed[:number])

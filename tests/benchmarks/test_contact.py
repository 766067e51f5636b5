"""The study of contact: which remedies may share a tokenizer."""

from benchmarks.contact import REMEDIES


def test_remedies_share_a_tokenizer_where_begin_pictures_and_episodes_are_the_same():
    blind = REMEDIES["blind replays"].tokenizer
    assert REMEDIES["blind replays, weight on what changes"].tokenizer == blind
    assert (
        REMEDIES["blind replays, a closer camera, twice as long"].tokenizer
        == REMEDIES["blind replays, a closer camera"].tokenizer
    )
    others = ["before", "near misses in the data", "finer latents, history", "pretrained", "blind replays, a closer camera"]
    assert len({blind, *(REMEDIES[name].tokenizer for name in others)}) == len(others) + 1

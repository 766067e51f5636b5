"""The study of contact: which remedies may share a tokenizer."""

from benchmarks.contact import REMEDIES


def test_remedies_share_a_tokenizer_where_begin_pictures_and_episodes_are_the_same():
    blind = REMEDIES["and blind replays in the data"].tokenizer
    assert REMEDIES["and weight on what changes"].tokenizer == blind
    assert REMEDIES["and twice as long"].tokenizer == blind
    others = ["before", "near misses in the data", "finer latents, history", "pretrained", "and a closer camera"]
    assert len({blind, *(REMEDIES[name].tokenizer for name in others)}) == len(others) + 1

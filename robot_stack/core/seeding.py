"""Random numbers that depend on what they are for, never on which worker draws them or in which order."""

import hashlib

import numpy as np

Key = int | str


def derive_seed(*key: Key) -> int:
    """A 63-bit seed from (run, purpose, update, start, member, ...); the same key gives the same seed on any machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*key: Key) -> np.random.Generator:
    """A generator for ``key``; see ``derive_seed``."""
    return np.random.Generator(np.random.Philox(derive_seed(*key)))

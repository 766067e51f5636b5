"""Random numbers that depend on what they are for, never on which worker draws them or in which order (``core.seeding``)."""

from robot_stack.core.seeding import Key, derive_seed, generator

__all__ = ["Key", "derive_seed", "generator"]

"""Tests mirror the packages; helpers that several of them share are imported as tests.<room>.<module>."""

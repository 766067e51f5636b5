"""Calibration of cameras, hand and eye, and time. Torch-free."""

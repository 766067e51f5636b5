"""Episodes on disk: crash-safe MCAP logs, labels, decoding to rows, and conversion to LeRobot datasets."""

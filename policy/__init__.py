"""Flow-matching policies: networks, training, sampling, export, and the torch-free runtime."""

"""``prophrl doctor``: what is wrong with a robot PC, its devices and its files, and what to do about it. Torch-free."""

"""What policy and world model share: episodes in memory, normalisation, seeds, checkpoints. Imports robot_stack.core only."""

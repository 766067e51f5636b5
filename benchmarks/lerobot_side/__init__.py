"""LeRobot's asynchronous inference with our policy and our robot, to compare with. Needs the extras `train` and `bench`."""

"""Types, limits and the control loop. Numpy only: no ROS, no torch, no configuration framework, no clock."""

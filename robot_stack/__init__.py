"""The robot PC half: core loop, drivers, ROS 2 nodes, episodes and the command line. Never imports torch."""

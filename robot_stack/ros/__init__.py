"""ROS 2 nodes: parameters, plumbing, and calls into ``robot_stack.core``; no arithmetic."""

"""One file per device. Nothing here imports ROS or torch."""

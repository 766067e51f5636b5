"""OpenCV, set up before it is loaded; whoever captures pictures imports ``cv2`` from here."""

import os

# Whole seconds that a read of Video4Linux blocks; OpenCV looks for this when it is loaded (cap_v4l.cpp). Its default of 10
# would keep a node from ending.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

import cv2

__all__ = ["cv2"]

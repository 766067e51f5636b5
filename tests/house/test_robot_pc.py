"""What runs on the robot PC starts where importing torch, Hydra or LeRobot fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# LeRobot itself brings torch: its dataset writer and its adapters are processes of their own, with an extra.
NEED_TRAIN = {"robot_stack.episodes.to_lerobot"}
BLOCK = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
print("imported", len({names!r}))
"""
TORCH = ("torch", "torchvision", "lerobot", "diffusers", "transformers", "accelerate", "peft", "hydra", "omegaconf")


def modules(*rooms: str) -> list[str]:
    found = []
    for room in rooms:
        path = ROOT / room.replace(".", "/")
        for file in [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if name not in NEED_TRAIN and not name.split(".")[-1].startswith("lerobot_")]


def import_without(blocked: tuple[str, ...], names: list[str]) -> None:
    code = BLOCK.format(blocked=blocked, names=names)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"imported {len(names)}" in done.stdout


def test_robot_pc_needs_no_torch() -> None:
    names = modules("robot_stack", "calibration", "policy.onnx_policy")
    assert {"robot_stack.core.control_loop", "policy.onnx_policy"} <= set(names)
    import_without(TORCH, names)


def test_core_needs_neither_ros_nor_a_simulator() -> None:
    names = modules("robot_stack.core")
    assert {"robot_stack.core.safety", "robot_stack.core.path"} <= set(names)
    import_without((*TORCH, "rclpy", "mujoco", "metaworld", "onnxruntime", "mcap", "rosbags"), names)


def test_the_command_line_starts_with_the_standard_library_and_core_alone() -> None:
    import_without((*TORCH, "rclpy", "mujoco", "metaworld", "onnxruntime", "cv2", "psutil"), ["robot_stack.cli"])


def test_the_refusal_really_refuses() -> None:
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        import_without(("torch",), ["torch"])

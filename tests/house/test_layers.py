"""Who may import whom: downward only, wherever in a file the import stands."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("robot_stack", "learning", "policy", "world_model", "rl", "calibration", "launch", "benchmarks")
CORE = "robot_stack.core"
# Torch-free files of `learning` (an episode in memory and on disk): what collects data for the learner may speak its language.
EPISODES_OF_LEARNING = ("learning.episode", "learning.episode_store", "learning.seeding")

# Longest matching prefix decides. What a room may import of the project; the command line and the loop name what lies above
# them as text and import nothing.
ALLOWED: dict[str, tuple[str, ...]] = {
    "robot_stack.core": (CORE,),
    "robot_stack.paths": (CORE,),
    "robot_stack.run_dir": (CORE,),
    "robot_stack.drivers": (CORE, "robot_stack.drivers", "robot_stack.paths", *EPISODES_OF_LEARNING),
    "robot_stack.episodes": (CORE, "robot_stack.episodes", "robot_stack.paths", "robot_stack.run_dir"),
    "robot_stack.ros": ("robot_stack", "policy.onnx_policy", "calibration"),
    "robot_stack": ("robot_stack",),
    "calibration": (CORE, "robot_stack.paths", "calibration"),
    "learning": (CORE, "robot_stack.paths", "robot_stack.run_dir", "learning"),
    "policy": (CORE, "robot_stack.paths", "robot_stack.run_dir", "learning", "policy"),
    "world_model": (CORE, "robot_stack.paths", "robot_stack.run_dir", "learning", "world_model"),
    "rl": (CORE, "robot_stack.paths", "robot_stack.run_dir", "learning", "policy", "world_model", "rl"),
    "launch": ("robot_stack.bringup",),
    "benchmarks": ROOMS,
}


def python_files() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each thing of the project that a file imports."""
    package = module_of(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ROOMS and not (name.startswith("launch.") and file.is_relative_to(ROOT / "launch")):
                yield node.lineno, name


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def allowed_for(module: str) -> tuple[str, ...]:
    return ALLOWED[max((room for room in ALLOWED if within(module, room)), key=len)]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downward(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for line, name in imports_of(file)
        if not any(within(name, prefix) for prefix in allowed_for(module_of(file)))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_a_forbidden_import(tmp_path: Path) -> None:
    assert "policy" not in allowed_for("world_model.denoiser")
    assert not any(within("rl.train", prefix) for prefix in allowed_for("policy.train"))
    assert not any(within("robot_stack.drivers.sim_metaworld", prefix) for prefix in allowed_for("rl.train"))


def only_edges_import(package: str) -> list[str]:
    return [
        str(file.relative_to(ROOT))
        for file in python_files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(within(alias.name, package) for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module and within(node.module, package))
    ]


def test_hydra_is_seen_at_the_edge_only() -> None:
    assert set(only_edges_import("hydra")) == {"learning/hydra_entry.py"}
    outside = set(only_edges_import("omegaconf")) - {"learning/hydra_entry.py"}
    # An entry function may name the type that it gets from `compose`, nothing further in may.
    for file in outside:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert "hydra_entry" in source, f"{file} speaks of OmegaConf but is no entry point"


def test_rclpy_is_imported_by_nodes_only() -> None:
    allowed = ("robot_stack/ros/", "robot_stack/operate", "launch/", "benchmarks/")
    assert [file for file in only_edges_import("rclpy") if not file.startswith(allowed)] == []

"""Where ``config/`` and ``launch/`` are found: the one place that knows.

In a source checkout (and an editable install) they stand beside the packages. pip and colcon both install them under
``share/robot_stack`` of an installation prefix (``setup.py``, data_files).
"""

import os
import sys
from pathlib import Path

from robot_stack.core.errors import ProphRLError, UnknownNameError

PACKAGE = "robot_stack"


def share_dir() -> Path:
    """The folder that holds ``config/`` and ``launch/``.

    Raises:
        ProphRLError: neither a checkout nor an installation prefix has it.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] + [Path(sys.prefix)]
    candidates = [Path(__file__).resolve().parent.parent, *(prefix / "share" / PACKAGE for prefix in prefixes)]
    for candidate in candidates:
        if (candidate / "config" / "robot").is_dir():
            return candidate
    raise ProphRLError(f"config/ of {PACKAGE} not found; looked in: {', '.join(map(str, candidates))}. Reinstall the package.")


def config_dir() -> Path:
    """The Hydra root, which also holds robot and ROS parameter files."""
    return share_dir() / "config"


def robot_file(name_or_path: str) -> Path:
    """Path of a robot file, given its name (``sim_metaworld``) or a path to a file of one's own.

    Raises:
        UnknownNameError: no robot of that name is shipped.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    folder = config_dir() / "robot"
    path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UnknownNameError("robot", name_or_path, (file.stem for file in folder.glob("*.yaml")))
    return path

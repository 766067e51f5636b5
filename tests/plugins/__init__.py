"""A plug-in of LeRobot, as somebody else's package would bring it, and how it is installed for a test."""

import shutil
from pathlib import Path

NAME = "lerobot_robot_simulated"


def install(folder: Path) -> Path:
    """Put the plug-in and its distribution's metadata into ``folder``; LeRobot finds it where that is on the path."""
    shutil.copytree(Path(__file__).parent / NAME, folder / NAME)
    metadata = folder / f"{NAME}-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.1\n")
    return folder

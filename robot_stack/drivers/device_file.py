"""Which device of LeRobot to use and what its names mean to us: ``config/lerobot/<name>.yaml``.

``type`` is the name under which LeRobot registers it, ``config`` what its configuration class takes, ``names`` a
``FeatureMap``, and ``cameras`` says which of our cameras' pictures come from which of its features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.paths import config_dir

ENTRIES = ("type", "config", "names", "cameras")


@dataclass(frozen=True)
class DeviceFile:
    """A device of LeRobot.

    Attributes:
        source: the file, for messages.
        type: name under which LeRobot registers it.
        config: fields of its configuration.
        names: for ``FeatureMap.read``.
        cameras: name of our camera -> feature of the device.
    """

    source: str
    type: str
    config: Mapping[str, Any]
    names: Any
    cameras: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, where: str) -> "DeviceFile":
        """From a name in ``config/lerobot``, the path of a file, or the YAML itself.

        Raises:
            UnknownNameError: no device of that name is shipped, or an entry is unknown.
            BadFileError: it cannot be read, or an entry is missing or of the wrong kind.
        """
        source, text = _text(where)
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadFileError(source, f"cannot be read as YAML: {error}") from error
        if not isinstance(raw, Mapping):
            raise BadFileError(source, f"must be a mapping with {', '.join(ENTRIES)}, got {raw!r}")
        for key in raw:
            if key not in ENTRIES:
                raise UnknownNameError(f"entry of {source}", str(key), ENTRIES)
        if not isinstance(raw.get("type"), str):
            raise BadFileError(source, "type must be the name under which LeRobot registers the device, e.g. so101_follower")
        config, cameras = raw.get("config") or {}, raw.get("cameras") or {}
        for key, value in (("config", config), ("cameras", cameras)):
            if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
                raise BadFileError(source, f"{key} must be a mapping of names, got {value!r}")
        return cls(source, raw["type"], config, raw.get("names"), {name: str(feature) for name, feature in cameras.items()})


def _text(where: str) -> tuple[str, str]:
    """Name of the source, and its text."""
    if "\n" in where or where.lstrip().startswith("{"):
        return "device file", where
    folder = config_dir() / "lerobot"
    path = Path(where) if where.endswith((".yaml", ".yml", ".json")) else folder / f"{where}.yaml"
    if not path.is_file() and path.parent == folder:
        raise UnknownNameError("device of LeRobot", where, (file.stem for file in folder.glob("*.yaml")))
    try:
        return str(path), path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error}") from error

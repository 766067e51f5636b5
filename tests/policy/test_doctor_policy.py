"""The doctor and exported policies: whole or not, for this robot or not."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the cpu extra")

from learning.episode import Episode
from policy.export import export
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.doctor import robot
from robot_stack.doctor.finding import Level
from robot_stack.paths import robot_file
from tests.policy.conftest import make_policy
from tests.policy.test_onnx import FAST


@pytest.fixture(scope="module")
def exported(spec: RobotSpec, episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    export(make_policy(spec), episodes, folder, FAST)
    return folder


def levels(folder: Path, spec: RobotSpec) -> tuple[list[Level], str]:
    found = list(robot.policy(folder, spec))
    return [finding.level for finding in found], found[-1].message


def test_a_whole_policy_loads(exported: Path, spec: RobotSpec) -> None:
    found, message = levels(exported, spec)
    assert found[:2] == [Level.OK, Level.OK] and Level.FAIL not in found and "loads and answers" in message


def test_what_cannot_be_deployed(exported: Path, spec: RobotSpec, tmp_path: Path) -> None:
    assert levels(tmp_path / "nowhere", spec)[0] == [Level.FAIL]
    found, message = levels(exported, RobotSpec.load(robot_file("ur5e")))
    assert found == [Level.FAIL] and "robot: policy 'sim_metaworld', robot 'ur5e'" in message
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    with (damaged / "step.onnx").open("r+b") as file:
        file.seek(200)
        file.write(b"\0\0\0\0")
    found, message = levels(damaged, spec)
    assert found == [Level.FAIL] and "step.onnx" in message
    shutil.copytree(exported, tmp_path / "edited")
    manifest = tmp_path / "edited" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    assert levels(tmp_path / "edited", spec)[0] == [Level.FAIL]


def test_two_runtimes_that_overwrite_each_other(
    exported: Path, spec: RobotSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):  # what pip leaves of a package that another has overwritten
        folder = tmp_path / f"{name}-1.31.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found, message = levels(exported, spec)
    assert found == [Level.OK, Level.FAIL] and "onnxruntime and onnxruntime-gpu overwrite each other" in message

"""A checkpoint comes back as it was, or is refused with a reason."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policy import checkpoint
from policy.manifest import PolicyManifest
from robot_stack.core.errors import BadFileError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from tests.policy.conftest import INSTRUCTIONS, SMALL, make_policy


def test_round_trip(spec: RobotSpec, tmp_path: Path) -> None:
    policy = make_policy(spec, dataclasses.replace(SMALL, use_state=True))
    written = checkpoint.save(policy, tmp_path, {"dataset_hash": "abc", "training": {"seed": 3}})
    loaded = checkpoint.load(tmp_path, spec)
    assert loaded.settings == policy.settings
    assert loaded.manifest.policy_hash == written.policy_hash == checkpoint.policy_hash(policy)
    assert loaded.manifest.dataset_hash == "abc"
    assert loaded.manifest.extra == {"training": {"seed": 3}}
    assert loaded.manifest.state_names == spec.state_names
    images, state, instruction = torch.rand(2, 1, 3, 64, 64), torch.rand(2, 4), torch.randn(2, 384)
    x_t, t = torch.randn(2, 5, 4), torch.rand(2, 5)
    with torch.no_grad():
        ours, theirs = (p.velocity(p.encode(images, state, instruction), x_t, t) for p in (policy, loaded))
    assert torch.equal(ours, theirs)
    for text in INSTRUCTIONS:
        assert torch.equal(loaded.instruction_embedding(text), policy.instruction_embedding(text))
    physical = np.random.default_rng(0).normal(size=(3, 5, 4))
    assert np.array_equal(loaded.normaliser.normalise(physical), policy.normaliser.normalise(physical))


def test_the_hash_tells_policies_apart(spec: RobotSpec) -> None:
    policy = make_policy(spec)
    before = checkpoint.policy_hash(policy)
    assert checkpoint.policy_hash(make_policy(spec)) == before
    with torch.no_grad():
        policy.expert.velocity.bias[0] += 1e-6
    assert checkpoint.policy_hash(policy) != before


def test_a_policy_for_another_robot_is_refused_naming_both(spec: RobotSpec, tmp_path: Path) -> None:
    checkpoint.save(make_policy(spec), tmp_path)
    camera = dataclasses.replace(spec.cameras[0], name="wrist", width=128)
    other = dataclasses.replace(spec, name="other_arm", rate_hz=30.0, cameras=(camera,), actions=spec.actions[:3])
    with pytest.raises(SpecMismatchError) as refused:
        checkpoint.load(tmp_path, other)
    text = str(refused.value)
    assert "robot other_arm" in text
    for part in (
        "'sim_metaworld'",
        "'other_arm'",
        "20.0",
        "30.0",
        "('front', 64, 64)",
        "('wrist', 128, 64)",
        "('x', 'y', 'z')",
    ):
        assert part in text


def test_state_names_count_only_for_a_policy_that_uses_state(spec: RobotSpec, tmp_path: Path) -> None:
    other = dataclasses.replace(spec, state_names=("a", "b", "c", "d"))
    manifest = checkpoint.save(make_policy(spec), tmp_path)
    with pytest.raises(SpecMismatchError, match="fingerprint"):
        manifest.check_robot(other, tmp_path)
    with_state = checkpoint.save(make_policy(spec, dataclasses.replace(SMALL, use_state=True)), tmp_path / "state")
    with pytest.raises(SpecMismatchError, match="state_names"):
        with_state.check_robot(other, tmp_path)


def test_damaged_folders_are_refused_with_a_reason(spec: RobotSpec, tmp_path: Path) -> None:
    checkpoint.save(make_policy(spec), tmp_path)
    manifest, weights = tmp_path / "manifest.json", tmp_path / "model.safetensors"
    text, content = manifest.read_text(), weights.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(BadFileError, match=match):
            checkpoint.load(tmp_path, spec)
        manifest.write_text(text)
        weights.write_bytes(content)

    weights.write_bytes(content[: len(content) // 2])
    refused("sha256 differs")
    weights.unlink()
    refused("missing")
    manifest.write_text(text[: len(text) // 2])
    refused("is not JSON")
    manifest.write_text(json.dumps({"format": "something else"}))
    refused("not a policy manifest")
    edited = json.loads(text)
    edited["network"]["width"] = 64
    manifest.write_text(json.dumps(edited))
    refused("does not hold the weights")
    edited = json.loads(text) | {"policy_hash": "0" * 64}
    manifest.write_text(json.dumps(edited))
    refused("policy_hash differs")
    edited = json.loads(text) | {"actions": {"mean": [0.0], "std": [0.0]}}
    manifest.write_text(json.dumps(edited))
    refused("wrong form")
    edited = json.loads(text)
    del edited["flow_steps"]
    manifest.write_text(json.dumps(edited))
    refused("missing: \\['flow_steps'\\]")
    checkpoint.load(tmp_path, spec)
    with pytest.raises(BadFileError, match="give the folder"):
        checkpoint.load(tmp_path / "nowhere", spec)


def test_an_unknown_instruction_lists_the_known_ones(spec: RobotSpec, tmp_path: Path) -> None:
    checkpoint.save(make_policy(spec), tmp_path)
    with pytest.raises(UnknownNameError, match="open the drawer, press the button"):
        checkpoint.load(tmp_path).instruction_embedding("make tea")
    with pytest.raises(UnknownNameError, match="make tea"):
        PolicyManifest.read(tmp_path).embedding("make tea")

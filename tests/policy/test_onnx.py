"""The exported policy: the same chunks as torch, refused where it does not fit, usable without torch."""

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from learning.episode import Episode
from learning.episode_store import save_episode
from learning.images import resize_square
from policy import checkpoint
from policy.export import ExportSettings, export, main
from policy.flow_policy import FlowPolicy
from policy.inputs import chunk_noise, clip_grippers, prepare_images
from policy.manifest import PolicyManifest
from policy.onnx_policy import Exploration, OnnxFlow, OnnxPolicy, SessionSettings
from policy.sampling import encode_batch, plan, sample_euler
from policy.sde_step import FlowGrpoStep
from policy.train import TrainSettings, fit
from rl.flow_sde import SdeSampler
from robot_stack.core.actions import compose, decompose
from robot_stack.core.errors import BadFileError, ProphRLError, ShapeError, SpecMismatchError, UnknownNameError
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, Observation
from tests.policy.conftest import INSTRUCTIONS, SMALL, make_policy

FAST = ExportSettings(observations=20, latency_runs=2)
NO_PREFIX = np.zeros((0, 4))


@pytest.fixture(scope="module")
def exported(spec: RobotSpec, episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowPolicy, Path]:
    """A policy that uses the state, and its export."""
    policy = make_policy(spec, dataclasses.replace(SMALL, use_state=True))
    folder = tmp_path_factory.mktemp("onnx")
    export(policy, episodes, folder, FAST)
    return policy, folder


def observation(episode: Episode, t: int = 0) -> Observation:
    return Observation(
        stamp_ns=123,
        images={name: images[t] for name, images in episode.images.items()},
        state=episode.state[t].astype(np.float64),
        commanded=episode.commanded[t].astype(np.float64),
        instruction=episode.instruction,
    )


def test_same_noise_same_targets_as_torch(exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]) -> None:
    policy, folder = exported
    runtime = OnnxPolicy(folder, spec)
    runtime.warm_up()
    runtime.reset(42)
    for chunk, episode in enumerate(episodes):
        seen = observation(episode, t=chunk)
        answer = runtime.infer(seen, NO_PREFIX)
        noise = chunk_noise([42], chunk, policy.chunk_length, policy.action_dim)
        deltas = plan(policy, seen.images["front"][None], [seen.instruction], noise, seen.state[None])[0]
        np.testing.assert_allclose(answer.targets, compose(seen.commanded, deltas, spec.action_kinds), atol=1e-5, rtol=0)
        assert (answer.stamp_ns, answer.period_ns) == (123, spec.period_ns)


def test_cameras_of_different_sizes_in_the_order_of_the_robot_file(
    spec: RobotSpec, episodes: list[Episode], tmp_path: Path
) -> None:
    wrist = dataclasses.replace(spec.cameras[0], name="wrist", width=96, height=80)
    two = dataclasses.replace(spec, cameras=(*spec.cameras, wrist))
    random = np.random.default_rng(5)
    taught = [
        dataclasses.replace(e, images={"wrist": random.integers(0, 255, (len(e), 80, 96, 3), dtype=np.uint8), **e.images})
        for e in episodes
    ]
    policy = make_policy(two)
    fit(policy, taught, TrainSettings(steps=2, batch_size=4), progress=False)
    export(policy, taught, tmp_path, FAST)
    runtime = OnnxPolicy(tmp_path, two)
    seen = observation(taught[0])
    answer = runtime.infer(seen, NO_PREFIX).targets
    images = np.stack([resize_square(seen.images[name], 64) for name in ("front", "wrist")])[None]
    deltas = plan(policy, images, [seen.instruction], chunk_noise([0], 0, 5, 4))[0]
    np.testing.assert_allclose(answer, compose(seen.commanded, deltas, spec.action_kinds), atol=1e-5, rtol=0)
    swapped = plan(policy, images[:, ::-1], [seen.instruction], chunk_noise([0], 0, 5, 4))[0]
    assert not np.allclose(swapped, deltas, atol=1e-4)


def test_committed_targets_come_back_exactly_and_the_rest_continues_as_in_torch(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]
) -> None:
    policy, folder = exported
    runtime = OnnxPolicy(folder, spec)
    seen = observation(episodes[0])
    prefix = seen.commanded + np.array([[0.01, 0.0, 0.0, 0.0], [0.02, 0.01, 0.0, 0.0]])
    prefix[:, 3] = 0.4
    runtime.reset(7)
    answer = runtime.infer(seen, prefix).targets
    assert np.array_equal(answer[:2], prefix)
    with torch.no_grad():
        encoded = encode_batch(policy, seen.images["front"][None], [seen.instruction], seen.state[None])
        given = policy.normaliser.normalise(decompose(seen.commanded, prefix, spec.action_kinds))[None]
        noise = torch.from_numpy(chunk_noise([7], 0, 5, 4))
        deltas = sample_euler(policy, encoded, noise, torch.from_numpy(given).float())[0].double().numpy()
    deltas = policy.normaliser.denormalise(deltas)
    deltas[:, 3] = deltas[:, 3].clip(0.0, 1.0)
    np.testing.assert_allclose(answer, compose(seen.commanded, deltas, spec.action_kinds), atol=1e-5, rtol=0)
    with pytest.raises(ShapeError, match="P < 5"):
        runtime.infer(seen, np.repeat(prefix[:1], 5, axis=0))


def test_reset_repeats_an_episode_and_seeds_differ(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]
) -> None:
    runtime = OnnxPolicy(exported[1], spec)
    seen = observation(episodes[0])

    def episode(seed: int) -> np.ndarray:
        runtime.reset(seed)
        return np.stack([runtime.infer(seen, NO_PREFIX).targets for _ in range(2)])

    first = episode(1)
    assert np.array_equal(episode(1), first)
    assert not np.allclose(episode(2), first)
    assert not np.allclose(first[0], first[1])


def test_exploration_on_the_robot_is_that_of_practice(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]
) -> None:
    policy, folder = exported
    manifest = PolicyManifest.read(folder)
    shape = (manifest.flow_steps + 1, 1, manifest.chunk_length, len(spec.actions))
    noise = np.random.default_rng(5).standard_normal(shape, dtype=np.float32)
    episode = episodes[0]
    images, instruction, state = episode.images["front"][:1], episode.instruction, episode.state[:1]
    step = FlowGrpoStep(1.0)
    with torch.no_grad():
        prefix = encode_batch(policy, images, [instruction], state)
        path = SdeSampler(step, policy.flow_steps).sample(partial(policy.velocity, prefix), torch.from_numpy(noise))
    runtime = OnnxFlow(folder, manifest, SessionSettings())
    context = runtime.encode(
        prepare_images(images[:, None], manifest.image_size),
        state.astype(np.float32),
        manifest.embedding(instruction)[None],
    )
    ours = runtime.deltas(context, noise[0], explore=Exploration(step, noise[1:]))
    theirs = clip_grippers(policy.normaliser.denormalise(path.actions.numpy().astype(np.float64)), spec.action_kinds)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_exploration_is_drawn_by_the_episode(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]
) -> None:
    seen = observation(episodes[0])

    def targets(level: float, seed: int) -> FloatArray:
        runtime = OnnxPolicy(exported[1], spec, exploration=level)
        runtime.reset(seed)
        return runtime.infer(seen, NO_PREFIX).targets

    np.testing.assert_array_equal(targets(1.0, 3), targets(1.0, 3))
    assert np.abs(targets(1.0, 3) - targets(1.0, 4)).max() > 1e-6
    assert np.abs(targets(1.0, 3) - targets(0.0, 3)).max() > 1e-6


def test_manifest_states_parity_latency_opset_and_files(exported: tuple[FlowPolicy, Path]) -> None:
    policy, folder = exported
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["encoder.onnx", "step.onnx"]
    assert manifest["policy_hash"] == checkpoint.policy_hash(policy)
    parity = manifest["extra"]["parity"]
    assert parity["observations"] == 20 and len(parity["max_error"]) == 4
    assert max(parity["max_error"]) < 1e-5
    assert manifest["extra"]["opset"] == 18
    assert manifest["extra"]["latency"]["onnx_p50_ms"] > 0.0


def test_an_export_that_differs_from_the_policy_is_refused(
    spec: RobotSpec, episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter writes other weights than those that torch then runs."""
    import policy.export as module

    write = module._write_graphs

    def write_others(policy: FlowPolicy, folder: Path, opset: int) -> None:
        write(make_policy(spec, seed=9), folder, opset)

    monkeypatch.setattr(module, "_write_graphs", write_others)
    with pytest.raises(ProphRLError, match="standard deviations of an action"):
        export(make_policy(spec), episodes, tmp_path, FAST)
    assert not (tmp_path / "manifest.json").exists()


def test_foreign_damaged_and_unfinished_folders_are_refused(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode], tmp_path: Path
) -> None:
    policy, folder = exported
    with pytest.raises(SpecMismatchError, match="rate_hz: policy 20.0, robot 10.0"):
        OnnxPolicy(folder, dataclasses.replace(spec, rate_hz=10.0))
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "step.onnx").write_bytes((folder / "step.onnx").read_bytes()[:-100])
    with pytest.raises(BadFileError, match="sha256 differs"):
        OnnxPolicy(tmp_path, spec)
    checkpoint.save(policy, tmp_path / "trained")
    with pytest.raises(BadFileError, match="prophrl export"):
        OnnxPolicy(tmp_path / "trained", spec)
    with pytest.raises(BadFileError, match="cannot be trained"):
        checkpoint.load(folder)


def test_a_provider_that_is_not_got_is_an_error_unless_allowed(
    exported: tuple[FlowPolicy, Path], spec: RobotSpec, caplog: pytest.LogCaptureFixture
) -> None:
    absent = next(name for name in onnxruntime.get_all_providers() if name not in onnxruntime.get_available_providers())
    with pytest.raises(ProphRLError, match=f"{absent} was asked for and not got"):
        OnnxPolicy(exported[1], spec, SessionSettings(provider=absent))
    OnnxPolicy(exported[1], spec, SessionSettings(provider=absent, allow_fallback=True))
    assert f"{absent} was asked for and not got" in caplog.text
    with pytest.raises(UnknownNameError, match="CPUExecutionProvider"):
        OnnxPolicy(exported[1], spec, SessionSettings(provider="WishfulExecutionProvider"))


def test_bad_observations_are_refused(exported: tuple[FlowPolicy, Path], spec: RobotSpec, episodes: list[Episode]) -> None:
    runtime = OnnxPolicy(exported[1], spec)
    good = observation(episodes[0])
    bad = {
        "press the button": (UnknownNameError, dataclasses.replace(good, instruction="fly")),
        "not finite": (ProphRLError, dataclasses.replace(good, state=np.array([np.nan, 0, 0, 0]))),
        "unknown camera": (UnknownNameError, dataclasses.replace(good, images={})),
        r"\[64, 64, 3\]": (ShapeError, dataclasses.replace(good, images={"front": np.zeros((32, 32, 3), np.uint8)})),
    }
    for match, (error, seen) in bad.items():
        with pytest.raises(error, match=match):
            runtime.infer(seen, NO_PREFIX)


def test_the_command_exports_a_checkpoint(spec: RobotSpec, episodes: list[Episode], tmp_path: Path) -> None:
    policy = make_policy(spec)
    checkpoint.save(policy, tmp_path / "trained", {"dataset_hash": "abc"})
    save_episode(tmp_path / "data", episodes[0], spec.fingerprint)
    arguments = [f"out={tmp_path / 'onnx'}", f"data={tmp_path / 'data'}", "policy.export.latency_runs=1"]
    with pytest.raises(ProphRLError, match="checkpoint.policy"):
        main(arguments)
    assert main([*arguments, f"checkpoint.policy={tmp_path / 'trained'}"]) == 0
    runtime = OnnxPolicy(tmp_path / "onnx", spec)
    assert runtime.policy_hash == checkpoint.policy_hash(policy)
    assert runtime.manifest.dataset_hash == "abc"
    assert sorted(runtime.manifest.instructions) == sorted(INSTRUCTIONS)
    assert json.loads((tmp_path / "onnx" / "figures.json").read_text())["opset"] == 18


def test_it_runs_where_torch_cannot_be_imported(exported: tuple[FlowPolicy, Path]) -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "hydra", "safetensors", "onnx"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from policy.onnx_policy import OnnxPolicy
from robot_stack.core.robot_spec import RobotSpec
from robot_stack.core.types import FloatArray, Observation
from robot_stack.paths import robot_file
policy = OnnxPolicy(sys.argv[1], RobotSpec.load(robot_file("sim_metaworld")))
policy.reset(0)
image = np.zeros((64, 64, 3), np.uint8)
seen = Observation(0, {"front": image}, np.zeros(4), np.array([0.0, 0.6, 0.2, 1.0]), "press the button")
print(policy.infer(seen, np.zeros((0, 4))).targets.shape)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(exported[1])], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(5, 4)"

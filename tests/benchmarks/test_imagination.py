"""What the benchmark of imagination makes of known clocks, known repetitions and a small world."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import imagination, imagination_speed, measuring
from benchmarks.imagination_memory import WARM_UPDATES, as_trained, by_kind, growth, in_use, peak_resident, resident, rollout
from benchmarks.imagination_page import Found, page, ratios
from benchmarks.imagination_speed import CHUNK, EPISODE_CHUNKS, EVERY, PARTS, all_decoded, rate, shares, stepwise, stopwatches
from benchmarks.imagined_world import Subject, World, check_moving, described, make_world
from benchmarks.measuring import OtherWork
from learning.episode import Episode
from robot_stack.core.errors import ProphRLError
from robot_stack.core.ports import EnvironmentStep
from world_model.checkpoint import Prophet
from world_model.denoiser import DenoiserSettings

FRAMES = 12


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """The world of the benchmark, on two episodes of noise."""
    threads = torch.get_num_threads()
    subject = Subject(None, "push-v3", Path(), [noise_episode(seed) for seed in range(2)])
    made = make_world(subject)
    torch.set_num_threads(1)
    yield made
    torch.set_num_threads(threads)


def noise_episode(seed: int) -> Episode:
    random = np.random.Generator(np.random.Philox(seed))
    commanded = np.array([0.0, 0.6, 0.2, 1.0]) + 0.01 * random.standard_normal((FRAMES, 4))
    deltas = np.diff(commanded, axis=0, append=commanded[-1:])
    return Episode(
        name=f"noise.{seed}",
        images={"front": random.integers(255, size=(FRAMES, 64, 64, 3), dtype=np.uint8)},
        state=commanded.astype(np.float32),
        commanded=commanded.astype(np.float32),
        deltas=deltas.astype(np.float32),
        instruction="push",
        task="push-v3",
    )


class Clockwork:
    """An environment in which every call takes its time, by a clock of its own."""

    def __init__(self) -> None:
        self.now, self.taken, self.resets = 0.0, [], 0  # type: float, list[np.ndarray], int
        self.succeeded = False

    def reset(self, starts: Any, noise_seeds: Any = None) -> EnvironmentStep:
        self.now += 1000.0
        self.resets += 1
        return EnvironmentStep(np.zeros(0, dtype=np.uint8), np.zeros(0), np.zeros(len(starts), dtype=bool))

    def step(self, deltas: np.ndarray) -> EnvironmentStep:
        self.now += 50.0 if not self.taken else 2.0  # the first time is slow
        self.taken.append(deltas)
        latents = np.zeros((*deltas.shape[:2], 1))
        success = np.full(len(deltas), self.succeeded)
        return EnvironmentStep(np.zeros(0, dtype=np.uint8), np.zeros(0), success, {"latents": latents})

    def close(self) -> None:
        pass


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr(imagination_speed.time, "perf_counter", lambda: made.now)
    return made


def test_rates_count_actions_of_all_environments_and_neither_resets_nor_the_first_time(clockwork: Clockwork) -> None:
    actions = [np.zeros((3, 5, 4))] * (2 * EPISODE_CHUNKS)
    assert rate(clockwork, clockwork.step, range(3), actions) == pytest.approx(3 * 5 / 2.0)
    assert clockwork.resets == 1 + 2


def test_rollouts_that_stand_still_are_no_measurement(clockwork: Clockwork) -> None:
    clockwork.succeeded = True
    with pytest.raises(ProphRLError, match="3 rollouts have succeeded"):
        rate(clockwork, clockwork.step, range(3), [np.zeros((3, 5, 4))])
    moved = EnvironmentStep(np.zeros(0, dtype=np.uint8), np.zeros(0), np.zeros(2, dtype=bool), {"ticks": np.array([10, 10])})
    check_moving(moved, 10)
    with pytest.raises(ProphRLError, match=r"\[10, 10\] actions instead of 15"):
        check_moving(moved, 15)


def test_a_picture_every_step_takes_the_actions_one_by_one(clockwork: Clockwork) -> None:
    deltas = np.arange(2 * 5 * 4.0).reshape(2, 5, 4)
    stepwise(clockwork, deltas)
    assert [chunk.shape for chunk in clockwork.taken] == [(2, 1, 4)] * 5
    np.testing.assert_array_equal(np.concatenate(clockwork.taken, axis=1), deltas)


def test_a_picture_every_step_decodes_every_frame_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = world.imagined(world.moments[:2])
    environment.reset(range(2))
    decoded: list[Any] = []
    decode = Prophet.decode
    monkeypatch.setattr(Prophet, "decode", lambda prophet, latents: decoded.append(latents) or decode(prophet, latents))
    [deltas] = world.chunks(1, 2, 0)
    seen = all_decoded(environment, world.prophet, deltas)
    last, earlier = decoded
    frames = torch.cat([earlier.unflatten(0, (2, -1)), last[:, None]], dim=1)
    np.testing.assert_array_equal(frames.numpy(), seen.info["latents"])


def test_actions_are_random_but_the_same_for_both_sides(world: World) -> None:
    first, again, other = world.chunks(2, 3, "turn 0"), world.chunks(2, 3, "turn 0"), world.chunks(2, 3, "turn 1")
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(other)).all()
    assert first[0].shape == (3, 5, 4)
    assert (np.array(first)[..., 3] >= 0).all() and (np.array(first)[..., 3] <= 1).all()


def test_imagination_goes_on_without_success_and_its_parts_do_not_overlap(world: World) -> None:
    samples = rollout(world, 2, chunks=4, every=2)
    assert [steps for steps, *_ in samples] == [10, 20]
    found = shares(world, 2, chunks=1, number=0)
    assert found["shares"].keys() == PARTS.keys()
    assert 0.0 < found["shares"]["transformer"] < sum(found["shares"].values()) <= 1.0
    assert found["shares"]["action frames"] == 0.0, "tiny draws none"
    text = described(world, Subject(None, "push-v3", Path(), ()))
    assert "untrained Prophet" in text and "64 px as 16 x 16 x 16 latents" in text


def test_stopwatches_add_up_and_are_taken_away_again(clockwork: Clockwork) -> None:
    step, reset = Clockwork.step, Clockwork.reset
    with stopwatches({"stepping": (Clockwork, "step"), "resetting": (Clockwork, "reset")}) as seconds:
        clockwork.reset([0])
        for _ in range(3):
            clockwork.step(np.zeros((1, 5, 4)))
    assert seconds == {"stepping": 54.0, "resetting": 1000.0}
    assert Clockwork.step is step and Clockwork.reset is reset


def test_updates_are_told_apart_by_their_kind() -> None:
    kinds, durations = 2, [9.0, 90.0] * WARM_UPDATES + [1.0, 10.0, 3.0, 30.0, 2.0, 20.0]
    begun = np.concatenate([[5.0], 5.0 + np.cumsum(durations)])
    assert by_kind(begun, kinds) == pytest.approx([2.0, 20.0])
    assert as_trained([1.0, 2.0, 4.0], DenoiserSettings(self_forcing=0.5)) == pytest.approx(0.5 * 1.0 + 0.5 * 3.0)


def test_growth_is_the_slope_after_the_warm_up() -> None:
    samples = [(100, 900.0), (200, 500.0), (300, 500.2), (400, 500.4)]
    assert growth(samples, 200) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="two samples after 400"):
        growth(samples, 400)


def test_the_peak_is_kept_after_memory_is_freed() -> None:
    missing = peak_resident() - resident()
    assert missing >= -1.0
    wanted = peak_resident() + 64
    held = np.ones(round((missing + 64) * 2**20 / 8))
    assert peak_resident() >= wanted - 8
    del held
    assert peak_resident() >= wanted - 8


def test_memory_is_in_use_until_it_is_freed() -> None:
    before = in_use()
    held = np.ones(16 << 17)
    assert in_use() - before == pytest.approx(16.0, abs=0.5)
    del held
    assert in_use() - before == pytest.approx(0.0, abs=0.5)


def test_work_of_others_is_what_this_process_and_its_children_did_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(100.0, 50.0, 10.0), (110.0, 65.0, 18.0)])
    monkeypatch.setattr(measuring, "_times", lambda: next(times))
    monkeypatch.setattr(measuring.psutil, "cpu_count", lambda: 2)
    assert OtherWork().share() == pytest.approx((15.0 - 8.0) / 20.0)


def both(simulator: float, imagined: float) -> dict[str, float]:
    return {"simulator": simulator, "imagination": imagined, "compiled": 2.0 * imagined}


def a_turn(chunk: dict[str, float], every: dict[str, float], others: float = 0.0) -> dict[str, Any]:
    return {CHUNK: chunk, EVERY: every, "reset_s": both(0.5, 0.01), "encode_s": 0.25, "compiled_psnr": 44.0, "others": others}


def test_the_page_tells_hits_from_misses(tmp_path: Path) -> None:
    turns = [
        a_turn(both(100, 90), both(50, 90)),
        a_turn(both(10, 20), both(50, 90)),
        a_turn(both(100, 120), both(50, 90), 0.07),
    ]
    assert ratios(turns, CHUNK) == pytest.approx([0.9, 2.0, 1.2])
    slow = [a_turn(both(100, 99), both(50, 90))]
    cost = {"before_mib": 800.0, "peak_mib": 1500.0, "others": 0.0}
    part = {"shares": dict.fromkeys(PARTS, 0.1) | {"action frames": 0.0}, "chunk_s": 0.5, "others": 0.0}
    found = Found(
        turns={1: slow, 16: turns, 64: slow},
        parts={16: [part]},
        sampling={16: [{"rates": {"1": 200.0, "2": 100.0, "4": 40.0}, "others": 0.0}]},
        training=[{"update_s": [1.0, 2.0, 3.0], **cost}],
        imagining=[cost],
        rollout=[{"samples": [(50, 700, 80.0), (100, 900, 99.0), (200, 902, 99.01), (300, 904, 99.02), (500, 908, 99.04)]}],
        windows=16,
        rolled=4,
    )
    text = "\n".join(page(tmp_path, "a Prophet", DenoiserSettings(self_forcing=0.4), found))
    assert "| 1 | chunk | 100 | 99 | 0.99 |  | 198 | 1.98 |  |" in text, "one environment is told, not wanted"
    assert "| 16 | chunk | 100 (10 to 100) | 90 (20 to 120) | 1.20 (0.90 to 2.00) | **Reached.** |" in text
    assert "| 64 | chunk | 100 | 99 | 0.99 | **Missed.** | 198 | 1.98 | **Reached.** |" in text
    assert "| 64 | every step | 50 | 90 | 1.80 | **Reached.** | 180 | 3.60 | **Reached.** |" in text
    assert "differ by a PSNR of 44.0 (44.0 to 44.0) dB" in text
    assert "| 16 | 0.500 (0.500 to 0.500) | 0.250 (0.250 to 0.250) | 0.010 (0.010 to 0.010) |" in text
    assert "Other work used 7% of the machine's cores" in text
    assert "| 16 | 4 | 40 | 5.00 |" in text
    assert "| guard | 10.0 |" in text and "| rest | 20.0 |" in text and "action frames" not in text
    assert "| mean, 40% of the updates self-forced | 1.60 |" in text
    assert "| training, 16 windows | 800 | 1500 |" in text and "| imagination, 64 environments | 800 | 1500 |" in text
    assert "After the first 100 they change by +20.00 and\n+0.100 MiB in 1000 actions." in text
    assert "what is in use (below 0.5). **Reached.**" in text


def test_a_folder_holds_one_subject(tmp_path: Path) -> None:
    for _ in range(2):
        assert imagination._one_subject(tmp_path, "tiny; task push-v3") == "tiny; task push-v3"
    with pytest.raises(ProphRLError, match=r"figures of tiny; task push-v3, not of larger"):
        imagination._one_subject(tmp_path, "larger")

"""The closed loop as a list, and its recipes."""

import re
from pathlib import Path

import pytest

from robot_stack.cli import COMMANDS
from robot_stack.core.errors import BadFileError, UnknownNameError
from robot_stack.loop import clock, closed_loop, times_table
from robot_stack.paths import config_dir
from robot_stack.recipe import Recipe
from robot_stack.stages import Manifest, Stage

FOLDER = config_dir() / "loop"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def stages(recipe: str = "demo", seed: int = 0) -> list[Stage]:
    return closed_loop(Recipe.load(FOLDER, recipe), Path("runs/x"), seed)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_stage_reads_only_what_is_shipped_or_was_written_before(recipe: str) -> None:
    written: set[Path] = set()
    for stage in stages(recipe):
        for path in stage.inputs:
            assert path in written or path.is_relative_to(config_dir()), f"{stage.name} reads {path}, which nothing writes"
        assert stage.out not in written, f"{stage.out} is written twice"
        assert stage.argv[0] in COMMANDS
        written.add(stage.out)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_settings_of_a_recipe_are_known_to_the_stages(recipe: str) -> None:
    from learning.hydra_entry import resolved

    for stage in stages(recipe):
        if stage.resolver:
            command, *overrides = stage.argv
            assert resolved(overrides, command)["out"] == str(stage.out)
    used = {key for stage in stages(recipe) for key in keys_of(stage)}
    assert set(Recipe.load(FOLDER, recipe).settings) <= used, "a recipe has settings for a stage that does not exist"


def keys_of(stage: Stage) -> set[str]:
    return {name + ending for name in (stage.argv[0], stage.name) for ending in ("", f"@{stage.round_index}")}


def test_what_is_reported_was_never_learned_from() -> None:
    seeds = {stage.name: seed_range(stage) for stage in stages() if "--seeds" in stage.argv}
    recorded = [span for name, span in seeds.items() if name.startswith("record-")]
    assert seeds["deploy-sft"] == seeds["deploy-rl"]
    assert all(not set(seeds["deploy-rl"]) & set(span) for span in recorded)
    everything = [seed for span in recorded for seed in span]
    assert len(everything) == len(set(everything)), "two recordings share a start"


def seed_range(stage: Stage) -> range:
    first, last = stage.argv[stage.argv.index("--seeds") + 1].split(":")
    return range(int(first), int(last))


def test_runs_with_other_seeds_have_other_starts() -> None:
    def starts(seed: int) -> set[int]:
        return {start for stage in stages(seed=seed) if "--seeds" in stage.argv for start in seed_range(stage)}

    assert not starts(0) & starts(1)
    assert not starts(1) & starts(9)


def test_each_round_learns_from_the_policy_of_the_round_before(tmp_path: Path) -> None:
    text = (FOLDER / "demo.yaml").read_text()
    path = tmp_path / "three.yaml"
    path.write_text(re.sub(r"refresh: \[.*\]", "refresh: [{1.0: 5}, {0.0: 3, 1.0: 5}]", text))
    listed = closed_loop(Recipe.load(FOLDER, str(path)), Path("runs/x"), 0)
    by_place = {(stage.name, stage.round_index): stage for stage in listed}
    first = by_place["train-policy", 0].out
    for round_index in (1, 2):
        before = {name: by_place[name, round_index - 1].out for name in ("train-rl", "export-rl", "adapt")}
        recorded = [s for s in listed if s.name.startswith("record-rl") and s.round_index == round_index]
        assert len(recorded) == round_index
        assert all(before["export-rl"] in stage.inputs for stage in recorded)
        assert {by_place["convert-refresh", round_index].out, before["adapt"]} <= set(by_place["adapt", round_index].inputs)
        assert f"checkpoint.policy={before['train-rl']}" in by_place["train-rl", round_index].argv
        assert f"checkpoint.reference={first}" in by_place["train-rl", round_index].argv
    assert by_place["evaluate-rl", 2].inputs == (by_place["train-rl", 2].out,)
    learned_from = {path for stage in listed if stage.name in ("adapt", "train-judge", "train-rl") for path in stage.inputs}
    assert by_place["convert-held-out", 2].out not in learned_from


def test_filtered_cloning_sees_the_same_episodes_as_rl() -> None:
    last = max(stage.round_index for stage in stages())
    data = {stage.name: [a for a in stage.argv if a.startswith("data=")] for stage in stages() if stage.round_index == last}
    assert data["filtered-bc"][0].count("convert-refresh") == last > 0
    assert data["filtered-bc"] == data["train-rl"]
    assert "convert-refresh" in data["filtered-bc"][0] and "convert-refresh" not in data["filtered-bc-first"][0]


def test_overrides_reach_the_stages_from_general_to_special(tmp_path: Path) -> None:
    text = (FOLDER / "demo.yaml").read_text().split("settings:")[0]
    path = tmp_path / "mine.yaml"
    path.write_text(
        text + "settings: {train-rl: [seed=1], train-rl@1: [seed=2], export-rl: [seed=3]}\neverywhere: [threads=2]\n"
    )
    recipe = Recipe.load(FOLDER, str(path))
    assert recipe.overrides("train-rl", "train-rl", 0) == ("seed=1", "threads=2")
    assert recipe.overrides("train-rl", "train-rl", 1) == ("seed=1", "seed=2", "threads=2")
    assert recipe.overrides("export", "export-rl", 0) == ("seed=3", "threads=2")


def test_an_unknown_recipe_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="valid: demo.*did you mean 'demo'"):
        Recipe.load(FOLDER, "demoo")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("demonstrations: 3", "demonstrations: 0"), "must be a whole number of at least 1"),
        (("held_out: 8", "held_uot: 8"), "a recipe has the entries"),
        (("held_out: 8", "held_out: many"), "must be a whole number"),
        (("task:", "task: ["), "cannot be read as YAML"),
    ],
)
def test_a_broken_recipe_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.yaml"
    text = (FOLDER / "demo.yaml").read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(BadFileError, match=message):
        Recipe.load(FOLDER, str(path))


def test_times_are_listed_with_their_sum() -> None:
    def manifest(name: str, seconds: float, memory: int) -> Manifest:
        return Manifest(name, 0, (), "", {}, None, {}, {}, seconds, memory, "")

    lines = times_table([manifest("adapt", 61.2, 1 << 30), manifest("train-rl", 3600, 3 << 30)]).splitlines()
    assert lines[1].split() == ["0", "adapt", "1:01", "1024", "MiB"]
    assert lines[-1].split() == ["all", "61:01", "3072", "MiB", "at", "most"]
    assert clock(59.6) == "1:00"

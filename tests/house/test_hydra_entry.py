"""From overrides to frozen settings."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from learning.hydra_entry import build, compose, data_paths, robot_spec
from robot_stack.core.errors import BadFileError, ProphRLError, UnknownNameError
from robot_stack.paths import config_dir


@dataclass(frozen=True)
class Inner:
    width: int = 8


@dataclass(frozen=True)
class Settings:
    lr: float = 1e-3
    steps: int = 10
    levels: tuple[float, ...] = (0.1,)
    name: str | None = None
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if isinstance(self.steps, int) and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


def node(**values: object) -> object:
    return OmegaConf.create({"rl": {"_target_": "tests.house.test_hydra_entry.Settings", **values}}).rl


def test_defaults_and_overrides() -> None:
    config = compose(["seed=3", "run.name=mine", "run.round=2"], "train-policy")
    assert config.seed == 3
    assert config.out == "runs/mine/round-02/train-policy"
    assert config.task.name == "button-press-topdown-v3"
    assert robot_spec(config).name == "sim_metaworld"


def test_any_metaworld_task_needs_no_file() -> None:
    config = compose(["task=push-v3", "task.horizon=40"], "evaluate")
    assert (config.task.name, config.task.horizon) == ("push-v3", 40)


@pytest.mark.parametrize("wrong", ["press", "presss-v3"])
def test_an_unknown_task_is_refused_with_every_task_that_there_is(wrong: str) -> None:
    with pytest.raises(UnknownNameError, match=r"button-press-topdown-v3.*push-v3.*window-open-v3"):
        compose([f"task={wrong}"], "evaluate")


def test_seed_ranges_never_overlap() -> None:
    for file in (config_dir() / "task").glob("*.yaml"):
        firsts = sorted(compose([f"task={file.stem}", "task.name=x"], "evaluate").task.seeds.values())
        assert all(after - before >= 1000 for before, after in pairwise(firsts))


@pytest.mark.parametrize(
    ("override", "named", "guess"),
    [
        ("task=button-press-topdwn", "button-press-topdown-v3", "did you mean 'button-press-topdown-v3'"),
        ("robot=sim_metaword", "sim_metaworld", "did you mean 'sim_metaworld'"),
        ("sed=3", "checkpoint, data", "did you mean 'seed'"),
        ("task.horizn=3", "horizon", "unknown setting in task 'horizn'"),
        ("task.seeds.evaluation.x=3", "(none)", "unknown setting in task.seeds.evaluation"),
    ],
)
def test_a_wrong_name_lists_the_valid_ones(override: str, named: str, guess: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        compose([override], "train-rl")
    assert named in str(caught.value)
    assert guess in str(caught.value)


def test_a_mandatory_setting_is_asked_for() -> None:
    with pytest.raises(ProphRLError, match=r"needs a value for task\.name"):
        compose(["task=metaworld"], "evaluate")


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ProphRLError, match="expected key=value"):
        compose(["seed"], "train-rl")


def test_a_robot_file_of_ones_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((config_dir() / "robot" / "sim_metaworld.yaml").read_text().replace("name: sim_metaworld", "name: mine", 1))
    assert robot_spec(compose([f"robot={mine}"], "train-rl")).name == "mine"
    with pytest.raises(BadFileError, match="cannot be read"):
        robot_spec(compose([f"robot={tmp_path}/none.yaml"], "train-rl"))


def test_help_shows_choices_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compose(["--help", "seed=7"], "train-policy")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: prophrl train-policy" in shown
    assert "button-press-topdown-v3" in shown
    assert "seed: 7" in shown
    assert "data: episodes, lerobot, logs, mixture, npz_clips" in shown
    assert "data=<folder> and data=[<folder>,...] are short for data=episodes data.path=..." in shown


def test_data_is_none_one_or_several() -> None:
    assert data_paths(compose([], "adapt")) == []
    assert data_paths(compose(["data=a"], "adapt")) == [Path("a")]
    assert data_paths(compose(["data=[a,b]"], "adapt")) == [Path("a"), Path("b")]
    assert data_paths(compose(["data='my folder'"], "adapt")) == [Path("my folder")]
    assert data_paths(compose(["data=null"], "adapt")) == []
    assert data_paths(compose(["data.path=a"], "adapt")) == data_paths(compose(["data=episodes", "data.path=[a]"], "adapt"))


def test_settings_of_a_kind_of_data_are_checked() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown setting in data 'pth'; valid: name, path, rate_hz, robot, still, views, weight"
    ):
        compose(["data=npz_clips", "data.pth=a"], "adapt")
    with pytest.raises(ProphRLError, match=r"adapt needs a value for data\.path"):
        compose(["data=npz_clips"], "adapt")


def test_how_much_a_camera_flickers_is_left_to_the_data_unless_it_is_set() -> None:
    assert build(compose([], "adapt").world_model).sampler.still is None
    assert build(compose(["world_model.sampler.still=0.3"], "adapt").world_model).sampler.still == 0.3


def test_build_gives_plain_values() -> None:
    settings = build(node(lr=1, levels=[1, 2], inner={"_target_": "tests.house.test_hydra_entry.Inner", "width": 4}))
    assert settings == Settings(lr=1, levels=(1, 2), inner=Inner(4))
    assert type(settings.levels) is tuple


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": "fast"}, "Settings.lr must be float, got 'fast'"),
        ({"steps": 1.5}, "Settings.steps must be int, got 1.5"),
        ({"steps": True}, "Settings.steps must be int, got True"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lerning_rate": 1}, "lerning_rate"),
        ({"steps": "???"}, "steps"),
    ],
)
def test_build_refuses_what_does_not_fit(values: dict[str, object], message: str) -> None:
    with pytest.raises(ProphRLError, match=message):
        build(node(**values))

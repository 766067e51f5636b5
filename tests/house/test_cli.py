"""What a person sees of `prophrl`."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from robot_stack import cli
from robot_stack.core.errors import BadFileError

ROOT = Path(__file__).parents[2]


def prophrl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "robot_stack.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A command `toy` that does what the test puts into the dictionary under "act"."""
    box: dict[str, object] = {}
    monkeypatch.setitem(cli.COMMANDS, "toy", cli.Command("toys:entry", "a toy", cli.LOOP))
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: SimpleNamespace(entry=box["act"]))
    return box


def test_help_names_every_command_and_the_loop() -> None:
    done = prophrl("--help")
    assert done.returncode == 0
    for name, command in cli.COMMANDS.items():
        assert name in done.stdout
        assert command.summary in done.stdout
    assert "The loop: record" in done.stdout


def test_every_command_of_the_table_exists() -> None:
    for name, command in cli.COMMANDS.items():
        module, function = command.entry.split(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None, f"{name}: no module {module}"
        assert f"def {function}(" in Path(spec.origin).read_text(encoding="utf-8"), f"{name}: no {function} in {module}"


def test_unknown_command_lists_the_valid_ones_and_guesses() -> None:
    done = prophrl("trainrl")
    assert done.returncode == 2
    assert "unknown command 'trainrl'" in done.stderr
    assert "did you mean 'train-rl'?" in done.stderr
    assert "deploy" in done.stderr


def test_bad_input_is_one_message_without_a_traceback(toy: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    def act(argv: list[str]) -> int:
        raise BadFileError("robot.yaml", "limits must be two numbers")

    toy["act"] = act
    assert cli.main(["toy"]) == 2
    assert capsys.readouterr().err == "prophrl: robot.yaml: limits must be two numbers\n"


def test_debug_shows_the_traceback(
    toy: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(argv: list[str]) -> int:
        raise BadFileError("robot.yaml", "limits must be two numbers")

    toy["act"] = act
    monkeypatch.setenv("PROPHRL_DEBUG", "1")
    assert cli.main(["toy"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_is_named(toy: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    def act(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    toy["act"] = act
    assert cli.main(["toy"]) == 2
    assert (
        "torch is not available, but prophrl toy needs it. To install: pip install 'robot_stack[train]'"
        in capsys.readouterr().err
    )


def test_a_mistake_of_ours_keeps_its_traceback(toy: dict[str, object]) -> None:
    def act(argv: list[str]) -> int:
        raise ZeroDivisionError

    toy["act"] = act
    with pytest.raises(ZeroDivisionError):
        cli.main(["toy"])


def test_a_full_disk_says_what_to_do(toy: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    def act(argv: list[str]) -> int:
        raise OSError(28, "No space left on device", "runs/x")

    toy["act"] = act
    assert cli.main(["toy"]) == 2
    message = capsys.readouterr().err
    assert "No space left on device: runs/x. Free some space and run the same command again" in message


def test_ctrl_c_is_no_traceback(toy: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    def act(argv: list[str]) -> int:
        raise KeyboardInterrupt

    toy["act"] = act
    assert cli.main(["toy"]) == 130
    assert "continues from the last finished step" in capsys.readouterr().err


def test_arguments_reach_the_command_and_its_status_the_shell(toy: dict[str, object]) -> None:
    toy["act"] = len
    assert cli.main(["toy", "a=1", "--b", "c"]) == 3

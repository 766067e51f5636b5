"""Run a list of stages one after another, each once: a stage whose command, configuration and inputs are unchanged is skipped.

Beside the folder of every stage, ``runs/<name>/round-NN/<stage>``, stand ``<stage>.manifest.json``, written whole and only when
the stage has finished, and ``<stage>.log``. While a stage runs there is ``<stage>.running.json`` instead: after a crash the
same stage continues in its folder, while a folder that was begun with other inputs is moved aside.
"""

import fcntl
import hashlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from robot_stack.child import end_leftover, run_child
from robot_stack.core.errors import BadFileError, ProphRLError
from robot_stack.run_dir import stage_dir

FREE_BYTES = 1 << 30  # below this no stage is begun
LOCK_SECONDS = 2.0  # a child of a loop killed as it forked holds the lock until it runs its own program
PROGRAM = (sys.executable, "-m", "robot_stack.cli")
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One command of the loop.

    Attributes:
        name: unique within its round; also the name of its folder.
        round_index: the round of collect-and-refresh that it belongs to.
        argv: arguments of ``prophrl``.
        out: folder or file that it writes.
        inputs: folders and files that it reads, which stages before it wrote or which are shipped.
        resolver: "module:function" giving the full configuration for (argv, stage), "" where the arguments are all there is.
    """

    name: str
    round_index: int
    argv: tuple[str, ...]
    out: Path
    inputs: tuple[Path, ...] = ()
    resolver: str = ""

    def beside(self, run: Path, ending: str) -> Path:
        """The file of that ending next to the stage's folder."""
        folder = stage_dir(run, self.round_index, self.name)
        return folder.with_name(folder.name + ending)


@dataclass(frozen=True)
class Manifest:
    """What is known about a finished stage.

    Attributes:
        stage, round_index, argv: as in ``Stage``.
        key: hash of the command, the configuration and the inputs; equal keys mean equal work.
        inputs: path -> hash of its content.
        configuration: every setting after composition; None for stages that have arguments only.
        code: version of the package and, in a checkout, the commit.
        figures: the stage's own ``figures.json``.
        seconds: wall time; peak_memory: of the stage's processes together [bytes].
        finished: local time, ISO 8601.
    """

    stage: str
    round_index: int
    argv: tuple[str, ...]
    key: str
    inputs: dict[str, str]
    configuration: Any
    code: dict[str, str]
    figures: dict[str, Any]
    seconds: float
    peak_memory: int
    finished: str
    skipped: bool = field(default=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises: BadFileError: not a manifest of ours."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**raw, "argv": tuple(raw["argv"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadFileError(path, f"is not the manifest of a stage ({error}); remove it to run the stage again") from error


class StageFailedError(ProphRLError):
    """A stage ended with an error of its own, which it has printed."""

    def __init__(self, stage: Stage, status: int, log: Path) -> None:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(
            f"stage {stage.name} of round {stage.round_index} {how}; its output is in {log}. "
            f"The same command continues here, after everything that has finished"
        )


def run_stages(stages: Sequence[Stage], run: Path, program: Sequence[str] = PROGRAM) -> list[Manifest]:
    """Run what is not done yet; the manifests of all stages, in order.

    Args:
        stages: each reads what those before it wrote.
        run: folder of the run.
        program: what takes the stages' arguments.

    Raises:
        ProphRLError: another process works on this run, or the disk is nearly full.
        StageFailedError: a stage failed; everything before it is kept.
    """
    manifests = []
    with _only_one(run):
        for number, stage in enumerate(stages, 1):
            manifest = finished(stage, run)
            if manifest is None:
                LOG.info("[%d/%d] round %d: %s", number, len(stages), stage.round_index, stage.name)
                manifest = _run(stage, run, program)
            else:
                LOG.info("[%d/%d] round %d: %s: unchanged, skipped", number, len(stages), stage.round_index, stage.name)
            manifests.append(manifest)
    return manifests


def finished(stage: Stage, run: Path) -> Manifest | None:
    """The manifest of ``stage`` if it has been done with these very settings and inputs and its output is still there."""
    path = stage.beside(run, ".manifest.json")
    if not path.exists() or not stage.out.exists():
        return None
    manifest = Manifest.load(path)
    same = manifest.key == _key(stage, _hashes(stage), _configuration(stage))
    return Manifest(**{**vars(manifest), "skipped": True}) if same else None


def _run(stage: Stage, run: Path, program: Sequence[str]) -> Manifest:
    hashes, configuration = _hashes(stage), _configuration(stage)
    key = _key(stage, hashes, configuration)
    running, pid_file = stage.beside(run, ".running.json"), stage.beside(run, ".pid")
    running.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(run)
    end_leftover(pid_file)
    _prepare(stage, run, key, running)
    log = stage.beside(run, ".log")
    result = run_child([*program, *stage.argv], log, pid_file)
    if result.status != 0:
        raise StageFailedError(stage, result.status, log)
    if not stage.out.exists():
        raise ProphRLError(f"stage {stage.name} ended well but did not write {stage.out}; its output is in {log}")
    manifest = Manifest(
        stage=stage.name,
        round_index=stage.round_index,
        argv=stage.argv,
        key=key,
        inputs=hashes,
        configuration=configuration,
        code=code_version(),
        figures=_figures(stage),
        seconds=round(result.seconds, 3),
        peak_memory=result.peak_memory,
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    facts = {name: value for name, value in vars(manifest).items() if name != "skipped"}
    write_json(stage.beside(run, ".manifest.json"), facts)
    running.unlink()
    return manifest


def _prepare(stage: Stage, run: Path, key: str, running: Path) -> None:
    """Leave the stage an empty place or its own unfinished work, never another's."""
    begun_with = json.loads(running.read_text(encoding="utf-8"))["key"] if running.exists() else None
    if stage.out.exists() and begun_with != key:
        aside = next(path for path in _numbered(stage.out) if not path.exists())
        LOG.info("%s was made with other settings or inputs; moved to %s", stage.out, aside.name)
        stage.out.rename(aside)
    stage.beside(run, ".manifest.json").unlink(missing_ok=True)
    write_json(running, {"key": key})


def _numbered(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield path.with_name(f"{path.name}.previous-{number}")
        number += 1


def _hashes(stage: Stage) -> dict[str, str]:
    return {str(path): content_hash(path) for path in stage.inputs}


def _configuration(stage: Stage) -> Any:
    """Every setting of the stage; whoever composes it lies above this package, so it is named, as on the command line."""
    if not stage.resolver:
        return None
    module, function = stage.resolver.split(":")
    command, *overrides = stage.argv
    return getattr(importlib.import_module(module), function)(overrides, command)


def _key(stage: Stage, hashes: Mapping[str, str], configuration: Any) -> str:
    text = json.dumps([stage.argv, sorted(hashes.items()), configuration], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Hash of a file, or of the names and contents of all files below a folder.

    Raises:
        BadFileError: there is no such file or folder.
    """
    if not path.exists():
        raise BadFileError(path, "is missing: the stage that writes it has not run, or its output was removed")
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        with file.open("rb") as stream:
            digest.update(f"{file.relative_to(path)}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def code_version() -> dict[str, str]:
    """The package's version and, in a checkout, the commit and whether files differ from it."""
    from importlib import metadata

    try:
        version = {"robot_stack": metadata.version("robot_stack")}
    except metadata.PackageNotFoundError:
        version = {}
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists() and shutil.which("git"):
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
        version["commit"] = answer.stdout.strip() or "unknown"
    return version


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all, also when the power fails."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _figures(stage: Stage) -> dict[str, Any]:
    path = stage.out / "figures.json"
    if not path.is_file():
        return {}
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadFileError(path, f"is not JSON: {error}") from error
    return figures


def _check_disk(run: Path) -> None:
    free = shutil.disk_usage(run).free
    if free < FREE_BYTES:
        raise ProphRLError(
            f"only {free / 2**20:.0f} MiB are free on the disk of {run}, at least {FREE_BYTES / 2**20:.0f} are wanted. "
            f"Free some space and run the same command again: everything finished is kept"
        )


@contextmanager
def _only_one(run: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it when the process ends, however it ends."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        until_s = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until_s:
                    raise ProphRLError(f"another process works on {run}; wait for it or choose another --name") from error
                time.sleep(0.05)
        yield

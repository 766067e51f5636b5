"""`prophrl episodes ls|label|show|repair`: look after recorded episodes."""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from robot_stack.core.errors import BadFileError
from robot_stack.episodes.decoder import EpisodeDecoder, EpisodeSummary
from robot_stack.episodes.errors import EpisodeInUseError
from robot_stack.episodes.log_reader import EpisodeLog, find_logs
from robot_stack.episodes.log_writer import is_in_use
from robot_stack.episodes.meta import Label, write_label
from robot_stack.episodes.repair import needs_repair, repair


def main(argv: Sequence[str]) -> int:
    """Run one of the subcommands; 1 where something asked for could not be done."""
    arguments = _parser().parse_args(argv)
    done: int = arguments.run(arguments)
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prophrl episodes", description="Look after recorded episodes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ls = commands.add_parser("ls", help="list the episodes of a folder")
    ls.add_argument("folder", type=Path, nargs="?", default=Path("episodes"))
    ls.set_defaults(run=_ls)

    show = commands.add_parser("show", help="what one log holds: facts, topics, timing")
    show.add_argument("log", type=Path)
    show.set_defaults(run=_show)

    label = commands.add_parser("label", help="change the label of episodes")
    label.add_argument("label", type=Label.parse, metavar=f"{{{','.join(Label)}}}")
    label.add_argument("logs", type=Path, nargs="+")
    label.set_defaults(run=_label)

    repair_ = commands.add_parser("repair", help="close logs that a crash has cut, keeping all that was saved")
    repair_.add_argument("paths", type=Path, nargs="+", help="logs, or folders of logs")
    repair_.set_defaults(run=_repair)
    return parser


def _ls(arguments: argparse.Namespace) -> int:
    counts: dict[str, int] = defaultdict(int)
    broken = 0
    for path in find_logs(arguments.folder):
        try:
            log = EpisodeLog.open(path)
        except BadFileError as error:
            print(f"{path.name:<40} broken: {error}")
            broken += 1
            continue
        state = log.label.value if log.finished else "recording" if is_in_use(path) else "cut"
        counts[state] += 1
        seed = "" if log.meta.seed is None else f"seed {log.meta.seed}"
        print(f"{log.name:<40} {state:<11} {log.meta.robot:<16} {log.meta.task:<28} {log.meta.source:<12} {seed}".rstrip())
    total = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no episodes"
    print(f"{arguments.folder}: {total}" + (f", {broken} broken" if broken else ""))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    log = EpisodeLog.open(arguments.log)
    facts = log.meta.to_record() | {"label": log.label.value, "finished": json.dumps(log.finished)}
    for key, value in facts.items():
        if key != "robot_file":
            print(f"{key:<14} {value}")
    stamps: dict[str, list[int]] = defaultdict(list)
    types: dict[str, str] = {}
    for message in log.messages():
        stamps[message.topic].append(message.stamp_ns)
        types[message.topic] = message.msgtype
    print()
    for topic, times in sorted(stamps.items()):
        seconds = (max(times) - min(times)) / 1e9
        rate = f"{(len(times) - 1) / seconds:6.1f} Hz" if seconds else ""
        print(f"{topic:<34} {len(times):>6} x {types[topic]:<40} {rate}".rstrip())
    decoder = EpisodeDecoder(log)
    summary = EpisodeSummary(decoder)
    for row in decoder.rows():
        summary.add(row)
    first = "never" if summary.first_success is None else f"at row {summary.first_success}"
    timing = "; ".join(summary.flags) or f"fine, {decoder.achieved_rate_hz:.2f} Hz"
    print(f"\n{len(summary)} rows; task done: {first}; timing: {timing}")
    return 0


def _label(arguments: argparse.Namespace) -> int:
    logs = [EpisodeLog.open(path) for path in arguments.logs]  # all or none
    for log in logs:
        write_label(log.path, arguments.label)
        print(f"{log.name}: {log.label.value} -> {arguments.label.value}")
    return 0


def _repair(arguments: argparse.Namespace) -> int:
    found = [(path, path.is_dir()) for path in arguments.paths]
    candidates = [log for path, is_folder in found for log in (find_logs(path) if is_folder else [path])]
    failed = 0
    for path in filter(needs_repair, candidates):
        try:
            repaired = repair(path)
        except (BadFileError, EpisodeInUseError) as error:
            print(f"not repaired: {error}")
            failed += 1
            continue
        print(f"{repaired.path}: {repaired.messages} messages, {repaired.seconds:.2f} s")
    return 1 if failed else 0

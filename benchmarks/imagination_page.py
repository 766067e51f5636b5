"""The results page of ``benchmarks.imagination``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.imagination_memory import as_trained, growth
from benchmarks.imagination_speed import CHUNK, COMPILED, EPISODE_CHUNKS, EVERY, IMAGINATION, PARTS, SIMULATOR, median_and_range
from benchmarks.measuring import Repetition, machine, made_with, table
from world_model.denoiser import DenoiserSettings

WARM_SHARE = 0.2  # of the long rollout, not counted
GROWTH_MIB = 0.5  # in 1000 actions; one kept picture an action would be 12
PARTS_SHOWN = 0.0005  # share of a chunk below which a part is not shown


@dataclass(frozen=True)
class Found:
    """What was measured, by environments where that is a key.

    Attributes:
        turns, parts, sampling: of ``benchmarks.imagination_speed``.
        training, imagining, rollout: of ``benchmarks.imagination_memory``.
        windows: of an update.
        rolled: environments of the long rollout.
    """

    turns: Mapping[int, Sequence[Repetition]]
    parts: Mapping[int, Sequence[Repetition]]
    sampling: Mapping[int, Sequence[Repetition]]
    training: Sequence[Repetition]
    imagining: Sequence[Repetition]
    rollout: Sequence[Repetition]
    windows: int
    rolled: int


def page(work: Path, subject: str, denoiser: DenoiserSettings, found: Found) -> Iterable[str]:
    """The lines of the page."""
    yield "# Imagination beside the simulator, measured"
    yield ""
    yield f"Written by `python -m benchmarks.imagination`. {machine()}. Made with {made_with(work)}."
    yield ""
    yield f"Measured: {subject}."
    yield ""
    yield "Both sides may use all cores; the simulator has a process for each, its arms spread evenly, and the fast renderer at"
    yield "the size of the imagined pictures. Both begin at the same starts and take the same random delta actions, through the"
    yield "same guard; no rollout succeeds, which was checked, for it would stand still and cost nothing. Medians of the"
    yield f"repetitions (and their range). Other work used {_most(found):.0%} of the machine's cores in the busiest of them."
    yield ""
    yield from _speed(found.turns)
    yield ""
    yield "## Sampling steps"
    yield ""
    yield "One picture a chunk. Time against one step, of the same turn."
    yield ""
    yield from table(("environments", "steps", "actions/s", "time"), _sampling(found.sampling))
    yield ""
    yield "## Where the time of a chunk goes"
    yield ""
    yield "Share of the time in %, by environments; the rest is arithmetic on arrays and copies."
    yield ""
    yield from table(("part", *map(str, found.parts)), _parts(found.parts))
    yield ""
    yield "## Training"
    yield ""
    yield from _training(found, denoiser)
    yield ""
    yield "## Memory"
    yield ""
    yield from _memory(found)


def _speed(turns: Mapping[int, Sequence[Repetition]]) -> Iterable[str]:
    yield "## Speed"
    yield ""
    yield f'Actions a second over all environments. "{CHUNK}": one picture after each chunk, as a policy sees it and the API'
    yield f'gives it. "{EVERY}": one after each action; the simulator takes chunks of one, imagination decodes all frames.'
    yield f'"{COMPILED}": imagination with `world_model.sampler.compiled=true` and `world_model.sampler.precision=bfloat16`;'
    yield "translating the network (a minute or two, once for each size of batch) is not timed. Ratio: to the simulator in the"
    yield "same turn; wanted: at least 1 for several environments."
    yield ""
    header = ("environments", "pictures", "simulator, actions/s", "imagination, actions/s", "ratio", "", COMPILED, "ratio", "")
    yield from table(header, (_row(batch, c, entries) for batch, entries in turns.items() for c in (CHUNK, EVERY)))
    yield ""
    alike = median_and_range([entry["compiled_psnr"] for entries in turns.values() for entry in entries], 1)
    yield f"After {EPISODE_CHUNKS} chunks the pictures of both differ by a PSNR of {alike} dB."
    yield ""
    yield "Apart from that, before the first action:"
    yield ""
    columns = ("environments", "simulator's reset, s", "encoding of the starts, s", "reset of imagination, s")
    yield from table(columns, (_reset(batch, entries) for batch, entries in turns.items()))


def ratios(entries: Sequence[Repetition], counting: str, side: str = IMAGINATION) -> list[float]:
    """Rate of ``side`` in the simulator's, of each turn."""
    return [entry[counting][side] / entry[counting][SIMULATOR] for entry in entries]


def _row(batch: int, counting: str, entries: Sequence[Repetition]) -> Sequence[str]:
    rates = {side: median_and_range([entry[counting][side] for entry in entries], 0) for side in entries[0][counting]}
    cells = [str(batch), counting, rates[SIMULATOR]]
    for side in (IMAGINATION, COMPILED):
        found = ratios(entries, counting, side)
        verdict = "" if batch == 1 else f"**{'Reached' if median(found) >= 1.0 else 'Missed'}.**"
        cells += [rates[side], median_and_range(found), verdict]
    return cells


def _reset(batch: int, entries: Sequence[Repetition]) -> Sequence[str]:
    times = ([e["reset_s"][SIMULATOR] for e in entries], [e["encode_s"] for e in entries])
    imagined = [entry["reset_s"][IMAGINATION] for entry in entries]
    return (str(batch), *(median_and_range(values, 3) for values in (*times, imagined)))


def _sampling(sampling: Mapping[int, Sequence[Repetition]]) -> Iterable[Sequence[str]]:
    for batch, entries in sampling.items():
        for steps in entries[0]["rates"]:
            rates = [entry["rates"][steps] for entry in entries]
            times = [entry["rates"]["1"] / entry["rates"][steps] for entry in entries]
            yield str(batch), steps, median_and_range(rates, 0), median_and_range(times)


def _parts(parts: Mapping[int, Sequence[Repetition]]) -> Iterable[Sequence[str]]:
    for name in PARTS:
        shares = [[entry["shares"][name] for entry in entries] for entries in parts.values()]
        if max(max(values) for values in shares) >= PARTS_SHOWN:
            yield (name, *(median_and_range([100 * value for value in values], 1) for values in shares))
    rest = [[100 * (1.0 - sum(entry["shares"].values())) for entry in entries] for entries in parts.values()]
    yield ("rest", *(median_and_range(values, 1) for values in rest))
    yield ("a chunk, s", *(median_and_range([entry["chunk_s"] for entry in entries], 3) for entries in parts.values()))


def _training(found: Found, denoiser: DenoiserSettings) -> Iterable[str]:
    yield f"Updates of {found.windows} windows as `prophrl train-world-model` makes them (forward, backward, AdamW, averaged"
    yield "weights), in turns. Self-forced ones begin with chunks of the model's own output."
    yield ""
    kinds = len(found.training[0]["update_s"])
    by_kind = [[entry["update_s"][kind] for entry in found.training] for kind in range(kinds)]
    rows = [
        (f"{kind} of its own chunks before" if kind else "without self-forcing", median_and_range(v))
        for kind, v in enumerate(by_kind)
    ]
    mean = median_and_range([as_trained(entry["update_s"], denoiser) for entry in found.training])
    rows.append((f"mean, {denoiser.self_forcing:.0%} of the updates self-forced", mean))
    yield from table(("update", "s"), rows)


def _memory(found: Found) -> Iterable[str]:
    most = max(found.turns)
    yield "Resident memory of a process of its own, libraries included, in MiB."
    yield ""
    header = ("", "before the first step", "at most")
    cases = {f"training, {found.windows} windows": found.training, f"imagination, {most} environments": found.imagining}
    rows = [
        (name, *(median_and_range([entry[key] for entry in entries], 0) for key in ("before_mib", "peak_mib")))
        for name, entries in cases.items()
    ]
    yield from table(header, rows)
    yield ""
    samples = found.rollout[0]["samples"]
    last = int(samples[-1][0])
    warm = round(WARM_SHARE * last)
    slopes = [growth([(steps, sizes[column]) for steps, *sizes in samples], warm) for column in (0, 1)]
    verdict = "Reached" if slopes[1] < GROWTH_MIB else "Missed"
    resident, in_use = (", ".join(f"{sample[column]:.0f}" for sample in samples) for column in (1, 2))
    yield f"One rollout of {last} actions in {found.rolled} environments, not begun anew, looked at every {samples[0][0]}"
    yield f"actions: resident {resident}; in use {in_use}. (In use: asked of the C library and not freed; resident memory"
    yield f"also has what the library keeps, which comes and goes.) After the first {warm} they change by {slopes[0]:+.2f} and"
    yield f"{slopes[1]:+.3f} MiB in 1000 actions. Wanted: no growth of what is in use (below {GROWTH_MIB:g}). **{verdict}.**"


def _most(found: Found) -> float:
    groups = [*found.turns.values(), *found.parts.values(), *found.sampling.values(), found.training, found.imagining]
    return max(float(entry["others"]) for entries in groups for entry in entries)

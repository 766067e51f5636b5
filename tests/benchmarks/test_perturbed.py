"""The study of perturbed actions: what a row holds is what the page shows."""

import numpy as np

from benchmarks.perturbed import PERTURBED, confusion_figures, following_cells, page
from robot_stack.core.statistics import wilson_interval
from robot_stack.drivers.perturbations import UNCHANGED
from world_model.counterfactual import Verdicts
from world_model.following import ClipDistances, following_figures


def row(task: str) -> dict[str, str]:
    clips = [ClipDistances((25.0, 20.0), (0.1, 0.3), (0.4, 0.9), 0.05, 19.0)] * 3
    clips.append(ClipDistances((20.0, 24.0), (0.3, 0.1), (0.9, 0.4), 0.05, 19.0))
    verdicts = Verdicts(np.array([True, False, False, False]), np.array([0.9, 0.8, 0.1, 0.2]), np.zeros(4), 0.5)
    figures = {"task": task, "data": "noisy experts", "seed": 0, "auc_imagined": 1.0, "auc_true": 0.5}
    for kind in PERTURBED:
        figures |= {f"following_{kind}_{name}": value for name, value in following_cells(following_figures(clips)).items()}
    for kind in (UNCHANGED, *PERTURBED, "all"):
        figures |= {f"judged_{kind}_{name}": value for name, value in confusion_figures(verdicts).items()}
    figures |= dict.fromkeys(("auroc", "auroc_within", "spearman"), "0.60 [0.50 to 0.70]")
    return {name: str(value) for name, value in figures.items()}


def test_the_page_shows_every_perturbation_with_its_intervals():
    text = "\n".join(page([row("push-v3"), row("soccer-v3")], 100))
    followed = f"4 | 23.8 (21.0) | 0.15 (0.25) | 0.53 (0.78) | {' | '.join([str(wilson_interval(3, 4))] * 3)}"
    judged = f"1 | 0 | 2 | 1 | {wilson_interval(1, 3)} | {wilson_interval(0, 3)}"
    for task in ("push-v3", "soccer-v3"):
        assert all(f"| {task} | noisy experts | {kind} | {followed} |" in text for kind in PERTURBED)
        assert all(f"| {task} | noisy experts | {kind} | {judged} |" in text for kind in (UNCHANGED, *PERTURBED, "all"))
        assert f"| {task} | noisy experts | 1.000 | 0.500 |" in text

"""From a trained network to a bundle: calibrate, choose thresholds, measure, write.

Everything is chosen on the tuning heads; the holdout heads are only measured.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from ichnode import __version__
from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import ResNet
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.calibration import probability, read, series_logits, state
from ichnode.nets.manifest import (
    CARD,
    FORMAT,
    Calibration,
    Manifest,
    NetworkSpec,
    Provenance,
    SelfTest,
    Thresholds,
    canonical,
)
from ichnode.nets.selftest import self_test_input
from train.beside import look_at
from train.card import model_card
from train.fit import predict
from train.metrics import at_threshold, auroc, auroc_interval, log_loss
from train.recipe import Recipe
from train.simulated import Head

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SERIES_RULE: Literal["adjacent_mean"] = "adjacent_mean"
LEAST_SPECIFICITY = 0.98
LEAST_SUBTYPE_LOGIT = 0.0  # a subtype alone makes a series urgent only when it is rather likely
_UNSEEN_LOGIT = 4.6  # for a label that no tuning head shows: 99 %
_TOLERANCE_FULL, _TOLERANCE_REDUCED = 0.02, 0.35

CALIBRATED_HOW = (
    "Temperature and bias by maximum likelihood on simulated tuning heads, drawn towards 1 and 0; "
    "the subtypes share one temperature. The prevalence is the simulator's, not a hospital's."
)
CHOSEN_HOW = (
    "On simulated tuning heads. Urgent: the cut with the highest sensitivity plus specificity "
    "among those with a specificity of at least 0.98, in the middle of its gap; for a subtype at "
    "least one half. Review: below every tuning head with blood and half way down to the highest "
    "without, but above nine tenths of those without."
)


@dataclass(frozen=True, slots=True)
class Judged:
    """The logits and truths of some heads, by slice and by series."""

    slices: list[Floats]
    truths: list[Flags]

    @property
    def series(self) -> Floats:
        """Series logits (head, label)."""
        return np.stack([series_logits(one, SERIES_RULE) for one in self.slices])

    @property
    def series_truth(self) -> Flags:
        """Whether any slice of the head shows it (head, label)."""
        return np.stack([truth.any(axis=0) for truth in self.truths])


def export(
    recipe: Recipe,
    network: ResNet,
    tune: Sequence[Head],
    holdout: Sequence[Head],
    folder: Path,
    version: str,
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write bundle, model card and metrics; return the metrics.

    Parameters
    ----------
    tune : sequence of Head
        Calibration and thresholds are chosen on these.
    holdout : sequence of Head
        Measured with the finished bundle, and nothing else.
    folder : Path
        Where the bundle goes.
    beside : sequence of Path
        Folders with one real series each, to be looked at and reported.
    """
    spec = recipe.preprocess()
    halved = _as_stored(network)
    judged = Judged(predict(halved, tune, spec), [head.labels for head in tune])
    calibration = calibrate(judged)
    manifest = write_bundle(
        folder,
        _manifest(recipe, halved, calibration, choose(judged, calibration), version),
        {"joint": network.state_dict()},
    )
    bundle = Bundle.load(folder)
    joint = bundle.networks["joint"]
    if not isinstance(joint, ResNet):
        raise TypeError("the joint network is of another kind")
    measured = Judged(predict(joint, holdout, spec), [head.labels for head in holdout])
    metrics = measure(measured, manifest) | {"beside": [look_at(bundle, one) for one in beside]}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(model_card(manifest, recipe, metrics), encoding="utf-8")
    return metrics


def _as_stored(network: ResNet) -> ResNet:
    """Round the weights to float16 as the bundle does, so that what is measured is what is kept."""
    rounded = {
        name: t.half().float() if t.is_floating_point() else t
        for name, t in network.state_dict().items()
    }
    network.load_state_dict(rounded)
    return network.eval()


def _manifest(
    recipe: Recipe, network: ResNet, calibration: Calibration, cuts: Thresholds, version: str
) -> Manifest:
    spec = recipe.preprocess()
    with torch.inference_mode():
        expected = network(self_test_input(spec)).double().numpy()
    return Manifest(
        format=FORMAT,
        name="ichnode-simulated",
        version=version,
        labels=LABELS,
        networks=(NetworkSpec("joint", recipe.architecture, LABELS, "joint.safetensors", ""),),
        preprocess=spec,
        calibration=calibration,
        thresholds=cuts,
        provenance=Provenance(
            data=f"simulated head CT only ({recipe.heads} heads of ichnode.phantom)",
            licence="Apache-2.0",
            code_version=__version__,
            recipe=canonical(recipe),
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        ),
        self_test=SelfTest(
            recipe="discs-1",
            expected=tuple(tuple(round(float(v), 5) for v in row) for row in expected),
            tolerance_full=_TOLERANCE_FULL,
            tolerance_reduced=_TOLERANCE_REDUCED,
        ),
    )


def calibrate(judged: Judged) -> Calibration:
    """Fit temperature and bias of slices and of series."""
    of_slices = _fit_all(np.concatenate(judged.slices), np.concatenate(judged.truths))
    of_series = _fit_all(judged.series, judged.series_truth)
    return Calibration(
        slice_temperature=of_slices[0],
        slice_bias=of_slices[1],
        series_temperature=of_series[0],
        series_bias=of_series[1],
        series_rule=SERIES_RULE,
        how=CALIBRATED_HOW,
    )


def _fit_all(logits: Floats, truth: Flags) -> tuple[tuple[float, ...], tuple[float, ...]]:
    whole = _fit_temperature(logits[:, :1], truth[:, :1])
    kinds = _fit_temperature(logits[:, 1:], truth[:, 1:])
    return (whole[0],) + (kinds[0],) * (len(LABELS) - 1), (*whole[1], *kinds[1])


def _fit_temperature(logits: Floats, truth: Flags) -> tuple[float, tuple[float, ...]]:
    """Return one temperature and a bias per column."""
    columns = logits.shape[1]

    def cost(parameters: Floats) -> float:
        temperature, bias = float(np.exp(parameters[0])), parameters[1:]
        p = probability(logits, np.full(columns, temperature), bias)
        drawn = 0.02 * parameters[0] ** 2 + 0.002 * float((bias**2).sum())
        return log_loss(p, truth) + float(drawn)

    bounds = [(np.log(0.3), np.log(5.0)), *([(-6.0, 6.0)] * columns)]
    found = minimize(cost, np.zeros(1 + columns), method="L-BFGS-B", bounds=bounds).x
    return round(float(np.exp(found[0])), 5), tuple(round(float(b), 5) for b in found[1:])


def choose(judged: Judged, calibration: Calibration) -> Thresholds:
    """Choose the thresholds on calibrated series probabilities.

    Raises
    ------
    ValueError
        When the tuning heads are all with or all without blood.
    """
    bias = np.asarray(calibration.series_bias)
    scores = judged.series / np.asarray(calibration.series_temperature) + bias
    truth = judged.series_truth
    if truth[:, 0].all() or not truth[:, 0].any():
        raise ValueError("thresholds need tuning heads with and without blood")
    cuts = [_cut(scores[:, k], truth[:, k]) for k in range(len(LABELS))]
    positives, negatives = scores[truth[:, 0], 0], scores[~truth[:, 0], 0]
    between = (float(negatives.max()) + cuts[0]) / 2
    lenient = max(min(float(positives.min()) - 0.25, between), float(np.quantile(negatives, 0.9)))
    review = min(lenient, cuts[0] - 0.05)
    urgent = [cuts[0], *(max(cut, LEAST_SUBTYPE_LOGIT) for cut in cuts[1:])]
    return Thresholds(
        urgent=tuple(_as_probability(cut) for cut in urgent),
        review=_as_probability(review),
        how=CHOSEN_HOW,
    )


def _cut(scores: Floats, truth: Flags) -> float:
    """Return the best cut of one label; see `CHOSEN_HOW`."""
    if not truth.any():
        return _UNSEEN_LOGIT
    values = np.unique(scores)
    best, where = (-1.0, 0.0), float(values[-1]) + 1.0
    for low, high in itertools.pairwise(values):
        middle = float(low + high) / 2
        specificity = float((scores[~truth] < middle).mean()) if (~truth).any() else 1.0
        sensitivity = float((scores[truth] >= middle).mean())
        merit = (round(sensitivity + specificity, 9), float(high - low))
        if specificity >= LEAST_SPECIFICITY and merit > best:
            best, where = merit, middle
    return where


def _as_probability(logit: float) -> float:
    return round(float(np.clip(0.5 * (1 + np.tanh(logit / 2)), 1e-6, 1 - 1e-6)), 8)


def measure(judged: Judged, manifest: Manifest) -> dict[str, Any]:
    """Measure a finished bundle on heads that nothing was chosen on."""
    readings = [read(logits, manifest.calibration) for logits in judged.slices]
    series = np.stack([reading.series for reading in readings])
    truth = judged.series_truth
    findings = [state(one, manifest.thresholds)[0].value for one in series]
    pairs = list(zip((r.slices for r in readings), judged.truths, strict=True))
    result: dict[str, Any] = {
        "model_uid": manifest.model_uid,
        "data": "simulated holdout heads",
        "heads": len(readings),
        "heads_with_blood": int(truth[:, 0].sum()),
        "slices": sum(len(r.slices) for r in readings),
        "findings": {
            kind: {name: _count(findings, truth[:, 0] == flag, name) for name in _FINDINGS}
            for kind, flag in (("with blood", True), ("without", False))
        },
        "urgent": at_threshold(series[:, 0], truth[:, 0], manifest.thresholds.urgent[0]),
        "lowest_with_blood": _rounded(series[truth[:, 0], 0].min()),
        "highest_without": _rounded(series[~truth[:, 0], 0].max()),
        "labels": {},
    }
    for index, label in enumerate(LABELS):
        groups = [(p[:, index], t[:, index]) for p, t in pairs]
        flat, flags = (np.concatenate(parts) for parts in zip(*groups, strict=True))
        result["labels"][label] = {
            "slice_auroc": _rounded(auroc(flat, flags)),
            "slice_auroc_interval": [_rounded(v) for v in auroc_interval(groups)],
            "slice_log_loss": _rounded(log_loss(flat, flags)),
            "slices": int(flags.sum()),
            "series_auroc": _rounded(auroc(series[:, index], truth[:, index])),
            "series": int(truth[:, index].sum()),
        }
    return result


_FINDINGS = ("positive", "review", "negative")


def _count(findings: Sequence[str], members: Flags, name: str) -> int:
    return sum(f == name for f, m in zip(findings, members, strict=True) if m)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None

"""From trained networks to a bundle that the node runs, and what that bundle says of a cache."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ichnode import __version__
from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS, Label
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.calibration import SeriesLogits
from ichnode.nets.manifest import (
    FORMAT,
    Calibration,
    ContextSpec,
    Manifest,
    NetworkSpec,
    PreprocessSpec,
    Provenance,
    SelfTest,
    Thresholds,
    VolumeSpec,
)
from ichnode.nets.preprocess import neighbours, windows
from ichnode.nets.pretrained import InitialWeights
from ichnode.nets.runnable import LARGEST_BATCH, Runnable, prepare, read_logits
from ichnode.nets.selftest import self_test_series
from train.data.records import Licence, is_simulated
from train.data.views import Slices
from train.errors import TrainingError
from train.predictions import Predictions
from train.truth import Indices, beside_truth, whole_series

TOLERANCE_FULL, TOLERANCE_REDUCED = 0.02, 0.35
SIMULATED_ONLY = "simulated head CT only"
"""How a bundle that never learnt from a scan of a person begins to say what it learnt from."""
ROLES = ({"joint"}, {"joint", "context"}, {"hemorrhage", "subtypes"})
"""Which networks make a bundle."""
_NON_COMMERCIAL = "non-commercial"
_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """One network as it came out of training."""

    architecture: str
    labels: tuple[Label, ...]  # what its outputs are
    module: nn.Module = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """A dataset that the networks learned from, or were calibrated on."""

    dataset: str
    licence: Licence
    patients: int
    series: int
    slices: int
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """All that a bundle is made of.

    Attributes
    ----------
    networks : mapping of str to TrainedNetwork
        By role: "joint"; "hemorrhage" and "subtypes"; or "joint" and "context".
    context : ContextSpec, optional
        How far the context network is believed, where there is one.
    volume : VolumeSpec, optional
        How areas become millilitres, where the joint network draws masks.
    recipe : str
        The recipe as canonical JSON.
    data : sequence of TrainedOn
        What was learned from; see `trained_on`.
    initial : InitialWeights, optional
        What training started from, where that was not chance.
    """

    name: str
    version: str
    networks: Mapping[str, TrainedNetwork] = field(repr=False)
    spec: PreprocessSpec
    calibration: Calibration = field(repr=False)
    thresholds: Thresholds = field(repr=False)
    recipe: str = field(repr=False)
    data: Sequence[TrainedOn]
    context: ContextSpec | None = None
    volume: VolumeSpec | None = None
    initial: InitialWeights | None = None


def as_stored(network: _Network) -> _Network:
    """Return a copy whose weights are rounded to float16 as a bundle keeps them.

    What is measured, calibrated and stated is said of this copy, so that it is what runs later.

    Raises
    ------
    TrainingError
        When a weight is not finite or too large for float16.
    """
    kept = copy.deepcopy(network).cpu().eval()
    state = {
        name: t.half().float() if t.is_floating_point() else t
        for name, t in kept.state_dict().items()
    }
    if not all(bool(torch.isfinite(t).all()) for t in state.values()):
        raise TrainingError(
            "A weight is not finite in float16: the training diverged; lower the learning rate."
        )
    kept.load_state_dict(state)
    return kept


def trained_on(slices: Slices) -> tuple[TrainedOn, ...]:
    """Say which datasets some slices are of, and how much of each."""
    table = slices.table
    return tuple(
        TrainedOn(
            dataset=str(name),
            licence=slices.cache.licences[str(name)],
            patients=int(rows["patient"].nunique()),
            series=int(rows["series_number"].nunique()),
            slices=len(rows),
            simulated=bool((rows["label_source"] == "simulation").all()),
        )
        for name, rows in table.groupby("dataset", sort=True)
    )


def _called(dataset: str) -> str:
    return f"{dataset} (scans with simulated bleeds)" if is_simulated(dataset) else dataset


def starting_from(manifest: Manifest) -> InitialWeights:
    """Say that training started from the networks of a bundle; its terms follow them."""
    digests = ",".join(sorted(network.sha256 for network in manifest.networks))
    return InitialWeights(
        name=f"{manifest.name} {manifest.version} ({manifest.model_uid})",
        digest=digests,
        licence=manifest.provenance.licence,
        non_commercial=manifest.provenance.restrictions is not None,
        learnt_from=manifest.provenance.data,
    )


def write_candidate(trained: Trained, folder: Path) -> Manifest:
    """Write a bundle and return its manifest.

    The weights are rounded as they are stored, and the logits of the self-test come from the
    rounded ones. What was written is read back before it is returned.

    Raises
    ------
    TrainingError
        When the parts do not make a bundle.
    """
    if set(trained.networks) not in ROLES:
        raise TrainingError(
            f"No bundle is made of {', '.join(sorted(trained.networks)) or 'nothing'}: give joint, "
            "joint and context, or hemorrhage and subtypes."
        )
    stored = {role: as_stored(network.module) for role, network in trained.networks.items()}
    manifest = _manifest(trained)
    parts = prepare(stored, "cpu")
    images, positions_mm = self_test_series(trained.spec)
    found = read_logits(parts, (images,), positions_mm, manifest)
    manifest = dataclasses.replace(manifest, self_test=_self_test(found, trained.context))
    states = {role: module.state_dict() for role, module in stored.items()}
    try:
        write_bundle(folder, manifest, states)
        return Bundle.load(folder).manifest
    except (ValueError, ModelUnusable) as error:
        raise TrainingError(f"The networks make no bundle: {str(error).rstrip('.')}.") from error


def _manifest(trained: Trained) -> Manifest:
    """Return the manifest without the digests and the self-test, which follow."""
    return Manifest(
        format=FORMAT,
        name=trained.name,
        version=trained.version,
        labels=LABELS,
        networks=tuple(
            NetworkSpec(role, one.architecture, one.labels, f"{role}.safetensors", "")  # type: ignore[arg-type]
            for role, one in trained.networks.items()
        ),
        preprocess=trained.spec,
        calibration=trained.calibration,
        thresholds=trained.thresholds,
        provenance=_provenance(trained),
        self_test=SelfTest("discs-1", (), TOLERANCE_FULL, TOLERANCE_REDUCED),
        context=trained.context,
        volume=trained.volume,
    )


def _self_test(found: SeriesLogits, context: ContextSpec | None) -> SelfTest:
    rows = [tuple(round(float(v), 5) for v in row) for row in (*found.slices, found.series)]
    return SelfTest(
        recipe="discs-1",
        expected=tuple(rows[:-1]),
        tolerance_full=TOLERANCE_FULL,
        tolerance_reduced=TOLERANCE_REDUCED,
        expected_series=None if context is None else rows[-1],
    )


def _provenance(trained: Trained) -> Provenance:
    terms = _terms(trained)
    restricted = [term for term in terms if _NON_COMMERCIAL in term]
    return Provenance(
        data=_told(trained),
        licence="; ".join(terms) or "no data",
        code_version=__version__,
        recipe=trained.recipe,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        restrictions=f"{_NON_COMMERCIAL}: {'; '.join(restricted)}" if restricted else None,
    )


def _told(trained: Trained) -> str:
    """Say what was learned from; simulated scans are called so.

    Nothing else was, only where the weights that training started from saw nothing else either.
    """
    before = trained.initial.learnt_from if trained.initial else ""
    only = all(one.simulated for one in trained.data) and (
        not before or before.startswith(SIMULATED_ONLY)
    )
    scans = SIMULATED_ONLY if only else "simulated head CT"
    parts = [
        f"{scans if one.simulated else _called(one.dataset)} "
        f"({one.patients} patients, {one.series} series, {one.slices} slices)"
        for one in trained.data
    ]
    start = [f"started from {trained.initial.name}"] if trained.initial else []
    return "; ".join([*parts, *start]) or "nothing"


def _terms(trained: Trained) -> tuple[str, ...]:
    """Name the terms of every source once, those that exclude commercial use marked so."""
    terms = [
        _marked(f"{one.dataset}: {one.licence.name}", one.licence.non_commercial)
        for one in trained.data
    ]
    if (start := trained.initial) is not None:
        # What a bundle says of its own sources names them already.
        parts = [
            part if ": " in part else f"initial weights: {part}"
            for part in start.licence.split("; ")
        ]
        named = start.non_commercial and not any(_NON_COMMERCIAL in part for part in parts)
        terms += [_marked(part, named) for part in parts]
    return tuple(dict.fromkeys(terms))


def _marked(term: str, non_commercial: bool) -> str:
    if not non_commercial or _NON_COMMERCIAL in term:
        return term
    return f"{term} ({_NON_COMMERCIAL})"


def predict_with_bundle(
    bundle: Bundle,
    slices: Slices,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    advance: Callable[[], object] | None = None,
) -> Predictions:
    """Return what a bundle says of the series of a cache, on the very path of serving.

    Parameters
    ----------
    slices : Slices
        Whole series.
    device : torch.device or str
        Where to run.
    dtype : torch.dtype
        Of the encoders; the node may run them in bfloat16.
    advance : callable, optional
        Called after each series, for a progress bar.

    Raises
    ------
    TrainingError
        When the cache was made with another preprocessing than the bundle's.
    """
    manifest = bundle.manifest
    _must_fit(slices, manifest)
    parts = prepare(bundle.networks, device, dtype)
    series = []
    for chosen in whole_series(slices):
        found = _read(parts, slices, chosen, manifest)
        series.append(beside_truth(slices, chosen, found.slices, found.series, found.areas))
        if advance is not None:
            advance()
    return Predictions(tuple(series))


def _must_fit(slices: Slices, manifest: Manifest) -> None:
    """Refuse a cache whose pixels are not what the node would make of the same series."""
    kept = slices.cache.spec
    asked = dataclasses.replace(
        manifest.preprocess, windows_hu=kept.windows_hu, context_slices=kept.context_slices
    )
    if asked != kept:
        raise TrainingError(
            f"The cache {slices.cache.folder} was made with another size or preprocessing than the "
            f"model {manifest.name}; make one of {asked.size_px} px with its settings."
        )


def _read(parts: Runnable, slices: Slices, chosen: Indices, manifest: Manifest) -> SeriesLogits:
    rows, spec = slices.rows[chosen], manifest.preprocess
    positions_mm = slices.table["position_mm"].to_numpy()[chosen].tolist()
    hu = torch.from_numpy(np.array(slices.cache.hu[rows[0] : rows[-1] + 1])).to(parts.device)
    shown = windows(hu, spec)
    around = neighbours(positions_mm, spec).to(shown.device)
    batches = (shown[some].flatten(1, 2) for some in torch.split(around, LARGEST_BATCH))
    return read_logits(parts, batches, positions_mm, manifest)

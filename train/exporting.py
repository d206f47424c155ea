"""From finished and calibrated runs to a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import ContextSpec, Manifest
from ichnode.nets.pretrained import InitialWeights
from train.candidate import Trained, TrainedNetwork, trained_on, write_candidate
from train.context.joining import joined_networks
from train.data.views import Slices
from train.errors import TrainingError
from train.judge.chosen import read_chosen
from train.learn.run_folder import OpenedRun


def export_run(
    run: OpenedRun,
    learnt_from: Slices,
    folder: Path,
    *,
    subtypes: OpenedRun | None = None,
    name: str,
    version: str,
) -> Manifest:
    """Write the bundle of a run: one network, one with a sequence stage, or the paper's pair.

    Parameters
    ----------
    run : OpenedRun
        Calibrated, see `train.judge.chosen`.
    learnt_from : Slices
        The training split: what the bundle says of its data and their terms.
    subtypes : OpenedRun, optional
        The second network of a pair; `run` is then the first and answers for "any" alone.

    Raises
    ------
    TrainingError
        When the runs do not make a bundle, or are not calibrated.
    """
    chosen = read_chosen(run.folder)
    _check_sources(learnt_from, [run, *([subtypes] if subtypes else [])])
    networks, context = _pair(run, subtypes) if subtypes else joined_networks(run)
    return write_candidate(
        Trained(
            name=name,
            version=version,
            networks=networks,
            spec=run.spec,
            calibration=chosen.calibration,
            thresholds=chosen.thresholds,
            recipe=run.recipe.to_json(),
            data=trained_on(learnt_from),
            context=context,
            volume=chosen.volume,
            initial=_starts(run, subtypes),
        ),
        folder,
    )


def _check_sources(learnt_from: Slices, runs: Sequence[OpenedRun]) -> None:
    """Refuse a cache that lacks what a run learnt from: its terms would be left out."""
    there = set(learnt_from.table["dataset"])
    lacking = sorted({name for run in runs for name in run.data.get("datasets", ())} - there)
    if lacking:
        raise TrainingError(
            f"The cache {learnt_from.cache.folder} has no {', '.join(lacking)}, which was learnt "
            "from; give the cache of that run, so that the terms of every source go along."
        )


def _starts(run: OpenedRun, subtypes: OpenedRun | None) -> InitialWeights | None:
    """Return what the networks started from; the terms of both follow a pair."""
    starts = [one.start for one in (run, subtypes) if one is not None and one.start is not None]
    if len(set(starts)) < 2:
        return starts[0] if starts else None
    return InitialWeights(
        name=" and ".join(one.name for one in starts),
        digest=",".join(one.digest for one in starts),
        licence="; ".join(dict.fromkeys(one.licence for one in starts)),
        non_commercial=any(one.non_commercial for one in starts),
        learnt_from="; ".join(dict.fromkeys(one.learnt_from for one in starts if one.learnt_from)),
    )


def _pair(
    run: OpenedRun, subtypes: OpenedRun
) -> tuple[dict[str, TrainedNetwork], ContextSpec | None]:
    if run.labels != LABELS[:1] or subtypes.labels != LABELS[1:]:
        raise TrainingError(
            "A pair is a run with --labels any and one with --labels subtypes, in this order."
        )
    if run.spec != subtypes.spec:
        raise TrainingError("Both networks of a pair must be fed the same images.")
    roles = (("hemorrhage", run), ("subtypes", subtypes))
    return {
        role: TrainedNetwork(one.recipe.architecture, one.labels, one.network)
        for role, one in roles
    }, None

"""A network that has learnt before, to start from: that of a finished run, or of a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import FILE, PreprocessSpec
from ichnode.nets.pretrained import InitialWeights
from train.candidate import SIMULATED_ONLY, starting_from
from train.context.features import state_digest
from train.errors import TrainingError
from train.learn.recipe import LabelSet, Recipe
from train.learn.run_folder import OpenedRun, open_run

_SIMULATED = {"randomised", "simulated"}  # wholly; other sources may be scans with simulated bleeds


def start_from(recipe: Recipe, folder: Path) -> tuple[Recipe, SliceNetwork, InitialWeights]:
    """Return the recipe as the network asks for it, the network, and whose terms follow it.

    Architecture, labels, windows and neighbours are those of the network; the size of the images
    is the recipe's.

    Raises
    ------
    TrainingError
        When there is neither a run nor a bundle in the folder.
    """
    if (folder / FILE).is_file():
        architecture, labels, spec, network, origin = _of_bundle(folder)
    else:
        run = open_run(folder)
        architecture, labels = run.recipe.architecture, run.recipe.labels
        spec, network, origin = run.spec, run.network, _origin(run)
    fitted = dataclasses.replace(
        recipe,
        architecture=architecture,
        labels=labels,
        windows_hu=spec.windows_hu,
        context_slices=spec.context_slices,
        start=origin.name,
    )
    return fitted, network, origin


def _of_bundle(
    folder: Path,
) -> tuple[str, LabelSet, PreprocessSpec, SliceNetwork, InitialWeights]:
    try:
        bundle = Bundle.load(folder)
    except ModelUnusable as error:
        raise TrainingError(str(error)) from error
    role = "joint" if "joint" in bundle.networks else "hemorrhage"
    spec = next(one for one in bundle.manifest.networks if one.role == role)
    network = bundle.networks[role]
    if not isinstance(network, SliceNetwork):
        raise TypeError(f"the {role} network reads no slices")
    labels: LabelSet = "all" if role == "joint" else "any"
    origin = starting_from(bundle.manifest)
    return spec.architecture, labels, bundle.manifest.preprocess, network, origin


def _origin(run: OpenedRun) -> InitialWeights:
    """Say that training started from a run; the terms of its data and of its own start follow."""
    digest = state_digest(run.network)
    licences = run.data.get("licences", {})
    terms = [f"{name}: {licence['name']}" for name, licence in sorted(licences.items())]
    if run.start is not None:
        terms.append(f"initial weights: {run.start.licence}")
    return InitialWeights(
        name=f"a run on {', '.join(sorted(licences)) or 'nothing'} ({digest[:16]})",
        digest=digest,
        licence="; ".join(terms) or "no data",
        non_commercial=any(licence["non_commercial"] for licence in licences.values())
        or (run.start is not None and run.start.non_commercial),
        learnt_from=_learnt_from(run),
    )


def _learnt_from(run: OpenedRun) -> str:
    before = run.start.learnt_from if run.start else ""
    simulated = set(run.data.get("datasets", ())) <= _SIMULATED
    if simulated and (not before or before.startswith(SIMULATED_ONLY)):
        return SIMULATED_ONLY
    return ", ".join([*run.data.get("datasets", ()), *([before] if before else [])])

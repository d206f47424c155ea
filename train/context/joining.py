"""Slice network, context network and their blend as one: a run folder with one more folder in it.

::

    recipe.json, network.safetensors, ...   as the slice network's run has them
    context/recipe.json                     how the sequence stage was trained
    context/data.json                       on what, and on whose features
    context/metrics.csv, plots/             how it went
    context/checkpoint.pt                   from where it goes on
    context/network.safetensors             the context network
    context/result.json                     the blend and the figures it was chosen by; written last

Whatever works on a run works on this one, and sees the slice network; what asks here sees both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ichnode.domain.findings import LABELS
from ichnode.nets.context import ContextNet, build_context
from ichnode.nets.manifest import ContextSpec
from ichnode.spool import write_durable
from train.candidate import TrainedNetwork
from train.context.blending import Blend
from train.context.features import state_digest
from train.context.fitting import Fitted
from train.context.recipe import ContextRecipe, read_context_recipe
from train.context.weak import series_rule
from train.errors import TrainingError
from train.learn.run_folder import WEIGHTS, OpenedRun

FOLDER = "context"
_OF_THE_RUN = (
    "data.json",
    "split.json",
    "start.json",
    "environment.json",
    "weak.json",
    "recipe.json",
    WEIGHTS,
    "result.json",
)
"""What is taken over from the slice network's run; the last one says that it is whole."""


@dataclass(frozen=True, slots=True)
class OpenedContext:
    """A finished sequence stage.

    Attributes
    ----------
    network : ContextNet
        In evaluation mode, on the CPU.
    blend : ContextSpec
        How far it is believed.
    rule : str
        How a series' logit follows from the slice network's; the blend was chosen with that.
    result : mapping
        The figures that the blend was chosen by.
    """

    recipe: ContextRecipe
    network: ContextNet = field(repr=False)
    blend: ContextSpec
    rule: str
    result: Mapping[str, Any] = field(repr=False)


def has_context(run: Path) -> bool:
    """Say whether a run has a finished sequence stage."""
    return (run / FOLDER / "result.json").is_file()


def rule_of(run: Path) -> str:
    """Return by which rule of `ichnode.nets.calibration` the slices of a run speak for a series."""
    if not has_context(run):
        return series_rule(run)
    result = json.loads((run / FOLDER / "result.json").read_text(encoding="utf-8"))
    return str(result["series_rule"])


def open_context(run: OpenedRun) -> OpenedContext:
    """Open the sequence stage of a run.

    Raises
    ------
    TrainingError
        When there is none, or it was trained on the features of another network.
    """
    folder = run.folder / FOLDER
    if not has_context(run.folder):
        raise TrainingError(
            f"The run {run.folder} has no sequence stage; make one with `python -m train context`."
        )
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if result["encoder"] != state_digest(run.network):
        raise TrainingError(
            f"The sequence stage in {folder} reads the features of another network than the run's."
        )
    return OpenedContext(
        recipe=read_context_recipe((folder / "recipe.json").read_text(encoding="utf-8")),
        network=_network(folder, result),
        blend=ContextSpec(
            tuple(result["blend"]["slice_blend"]), tuple(result["blend"]["series_blend"])
        ),
        rule=result["series_rule"],
        result=result,
    )


def joined_networks(run: OpenedRun) -> tuple[dict[str, TrainedNetwork], ContextSpec | None]:
    """Return the networks of a run by role, and the blend, as `train.candidate.Trained` asks.

    A run without a sequence stage is the joint network alone, and there is no blend.

    Raises
    ------
    TrainingError
        When the run's network does not answer for all labels.
    """
    if run.labels != LABELS:
        raise TrainingError(
            f"The network of {run.folder} answers for {', '.join(run.labels)} only; a joint "
            "network answers for all labels."
        )
    joint = TrainedNetwork(run.recipe.architecture, LABELS, run.network)
    if not has_context(run.folder):
        return {"joint": joint}, None
    context = open_context(run)
    named = TrainedNetwork(context.network.architecture, LABELS, context.network)
    return {"joint": joint, "context": named}, context.blend


def begin_context(
    out: Path, run: OpenedRun, recipe: ContextRecipe, data: Mapping[str, Any]
) -> Path:
    """Write down what is asked, or check that the folder holds just that; return where it goes.

    Raises
    ------
    TrainingError
        When the folder holds another run, or a stage of another recipe or on other series.
    """
    folder = out / FOLDER
    if out.resolve() == run.folder.resolve():
        raise TrainingError("The sequence stage goes into a run folder of its own; give --out.")
    if (out / WEIGHTS).is_file() and _digest(out / WEIGHTS) != _digest(run.folder / WEIGHTS):
        raise TrainingError(f"{out} holds a run of another network; give another folder.")
    wanted = {"recipe.json": recipe.to_json() + "\n", "data.json": _text(data)}
    for name, text in wanted.items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise TrainingError(
                f"{out} holds a sequence stage of another recipe or on other series; give another "
                "folder."
            )
        write_durable(path, text.encode())
    return folder


def finish_context(
    out: Path, run: OpenedRun, fitted: Fitted, blend: Blend, figures: Mapping[str, Any]
) -> None:
    """Keep the context network, the blend, and beside them the run that they belong to."""
    folder = out / FOLDER
    state = {name: t.detach().contiguous() for name, t in fitted.network.state_dict().items()}
    write_durable(folder / WEIGHTS, save_tensors(state))
    for name in _OF_THE_RUN:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, out / name)
    result = {
        "architecture": fitted.network.architecture,
        "feature_width": fitted.network.feature_width,
        "encoder": state_digest(run.network),
        "blend": dataclasses.asdict(blend.spec),
        "epoch": fitted.epoch,
        "seconds": round(fitted.seconds, 1),
        **figures,
    }
    write_durable(folder / "result.json", _text(result).encode())


def _network(folder: Path, result: Mapping[str, Any]) -> ContextNet:
    network = build_context(result["architecture"], int(result["feature_width"]))
    try:
        network.load_state_dict(load_tensors((folder / WEIGHTS).read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"The weights of the sequence stage in {folder} are missing or damaged; remove its "
            "result.json and give the same `context` command."
        ) from error
    return network.eval().requires_grad_(requires_grad=False)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"

"""A run in progress, and the file from which it goes on as if nothing had happened."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ichnode.nets.architectures import SliceNetwork, build
from ichnode.nets.pretrained import NO_STATE
from ichnode.spool import write_durable
from train.errors import TrainingError
from train.learn.distributed import Team
from train.learn.groups import make_optimizer
from train.learn.precision import Arithmetic, arithmetic
from train.learn.recipe import Recipe, read_recipe
from train.learn.run_folder import CHECKPOINT


@dataclass(slots=True, eq=False)
class Learning:
    """A run in progress.

    Attributes
    ----------
    network : SliceNetwork
        What learns.
    averaged : SliceNetwork
        Its exponentially averaged weights and statistics; itself where none are kept.
    step : int
        Steps made; all that is drawn follows from it and the seed.
    spent_s : float
        Seconds, those of earlier starts included.
    """

    network: SliceNetwork = field(repr=False)
    averaged: SliceNetwork = field(repr=False)
    optimizer: torch.optim.Optimizer = field(repr=False)
    arithmetic: Arithmetic
    step: int = 0
    spent_s: float = 0.0


def new_learning(recipe: Recipe, team: Team, start: SliceNetwork | None) -> Learning:
    """Set up a run at its first step, on the device of the team.

    Parameters
    ----------
    start : SliceNetwork, optional
        Weights to start from; by default random ones that the seed decides.

    Raises
    ------
    TrainingError
        When those are not the weights of the recipe's network.
    """
    network = _plain(recipe)
    if start is not None:
        _take_over(network, start)
    network = network.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network) if recipe.averaging else network
    if recipe.sync_bn and team.world > 1 and team.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return Learning(
        network=network,
        averaged=averaged,
        optimizer=make_optimizer(network, recipe),
        arithmetic=arithmetic(recipe.precision, team.device),
    )


def plain_copy(recipe: Recipe, network: SliceNetwork, device: torch.device) -> SliceNetwork:
    """Return a network of its own with the same weights, in evaluation mode."""
    fresh = _plain(recipe)
    fresh.load_state_dict(network.state_dict())
    return fresh.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def _plain(recipe: Recipe) -> SliceNetwork:
    torch.manual_seed(recipe.seed)
    return build(recipe.architecture, recipe.preprocess().channels, len(recipe.answers))


def _take_over(network: SliceNetwork, start: SliceNetwork) -> None:
    try:
        network.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise TrainingError(
            "The weights to start from are of another network than the recipe's; give the same "
            "architecture, labels, windows and neighbours."
        ) from error


def save(run: Path, recipe: Recipe, learning: Learning) -> bool:
    """Keep the run so that it can go on; say whether it was kept.

    Weights that are no numbers any more are not: the checkpoint before them stays.
    """
    if not finite(learning.network):
        return False
    content = {
        "recipe": recipe.to_json(),
        "network": learning.network.state_dict(),
        "averaged": learning.averaged.state_dict() if recipe.averaging else {},
        "optimizer": learning.optimizer.state_dict(),
        "scaler": learning.arithmetic.scaler.state_dict(),
        "step": learning.step,
        "spent_s": learning.spent_s,
    }
    written = io.BytesIO()
    torch.save(content, written)
    write_durable(run / CHECKPOINT, written.getvalue())
    return True


def restore(run: Path, recipe: Recipe, learning: Learning) -> bool:
    """Go on where an earlier run stopped; say whether there was one.

    Raises
    ------
    TrainingError
        When the file is damaged, or is a run of another recipe.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        return False
    content = load_checkpoint(path)
    if not recipe.same_run(read_recipe(content["recipe"])):
        raise TrainingError(f"{path} is of another recipe; give another folder.")
    learning.network.load_state_dict(content["network"])
    if recipe.averaging:
        learning.averaged.load_state_dict(content["averaged"])
    learning.optimizer.load_state_dict(content["optimizer"])
    learning.arithmetic.scaler.load_state_dict(content["scaler"])
    learning.step, learning.spent_s = content["step"], content["spent_s"]
    return True


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    TrainingError
        When it is damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, *NO_STATE) as error:
        raise TrainingError(f"{path} is damaged; remove it to start anew.") from error
    return content


@torch.no_grad()
def finite(network: nn.Module) -> bool:
    """Say whether all weights are numbers."""
    sums = [p.float().sum() for p in network.parameters()]
    return bool(torch.isfinite(torch.stack(sums)).all())

"""The networks of a bundle at work: the one path from a series to logits, here and in training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import MaskNetwork, SliceNetwork, fold_batch_norm
from ichnode.nets.calibration import NOT_ASKED, SeriesLogits, combine, series_logits
from ichnode.nets.context import ContextNet, read_whole
from ichnode.nets.manifest import Manifest

Floats = npt.NDArray[np.float64]
_Network = TypeVar("_Network", bound=nn.Module)

LARGEST_BATCH = 32
"""Slices at a time; training measures with batches of the size that serving uses."""


@dataclass(frozen=True, slots=True)
class Runnable:
    """Networks ready to run in one way.

    Attributes
    ----------
    device : torch.device
        Where images are prepared and networks run.
    encoders : mapping of str to callable
        By role: images (n, channel, y, x) float32 on `device` to features (n, width), likewise.
        They do nearly all of the work and may do it with less than full precision.
    heads : mapping of str to callable
        By role: features to logits (n, output), at full precision.
    areas : mapping of str to callable
        By role: features to the area of each answer (n, output), or None.
    masks : mapping of str to callable
        By role: images, as for the encoders, to mask logits (n, output, y / 4, x / 4) float32; of
        those that draw masks.
    evidence : mapping of str to callable
        By role: images, as for the encoders, to logits of each place (n, output, y, x) float32; of
        those that can say it.
    context : ContextNet, optional
        At full precision.
    """

    device: torch.device
    encoders: Mapping[str, Callable[[Tensor], Tensor]] = field(repr=False)
    heads: Mapping[str, Callable[[Tensor], Tensor]] = field(repr=False)
    areas: Mapping[str, Callable[[Tensor], Tensor | None]] = field(repr=False)
    masks: Mapping[str, Callable[[Tensor], Tensor]] = field(repr=False)
    evidence: Mapping[str, Callable[[Tensor], Tensor]] = field(repr=False)
    context: ContextNet | None = field(default=None, repr=False)


def prepare(
    networks: Mapping[str, nn.Module],
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> Runnable:
    """Copy the networks of a bundle for inference: channels last, batch normalisation folded away.

    Parameters
    ----------
    networks : mapping of str to Module
        As `Bundle` holds them; they stay as they are.
    dtype : torch.dtype
        Of the encoders.
    """
    device = torch.device(device)
    slices = {role: net for role, net in networks.items() if isinstance(net, SliceNetwork)}
    bodies = {role: _folded(network).to(device, dtype) for role, network in slices.items()}
    context = networks.get("context")
    return Runnable(
        device=device,
        encoders={role: _reduced(body.embed, dtype) for role, body in bodies.items()},
        heads={role: _still(network.head).to(device) for role, network in slices.items()},
        areas={role: body.areas for role, body in bodies.items()},
        masks={
            role: _reduced(body.masks, dtype)
            for role, body in bodies.items()
            if isinstance(body, MaskNetwork)
        },
        evidence={role: _reduced(body.activation_maps, dtype) for role, body in bodies.items()},
        context=_still(context).to(device) if isinstance(context, ContextNet) else None,
    )


def _still(network: _Network) -> _Network:
    """Return a copy that is good for inference only."""
    return copy.deepcopy(network).eval().requires_grad_(requires_grad=False)


def _folded(network: _Network) -> _Network:
    own = _still(network)
    fold_batch_norm(own)
    return own.to(memory_format=torch.channels_last)


def _reduced(read: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Let something that reads images do it in one kind of arithmetic."""

    def run(images: Tensor) -> Tensor:
        return read(images.to(dtype=dtype, memory_format=torch.channels_last)).float()

    return run


def read_logits(
    parts: Runnable,
    batches: Iterable[Tensor],
    positions_mm: Sequence[float],
    manifest: Manifest,
) -> SeriesLogits:
    """Return the logits of one series, with the areas of a network that draws masks.

    Parameters
    ----------
    batches : iterable of Tensor, float32, (n, channel, y, x)
        The images of all its slices in anatomical order, on the device of `parts`.
    positions_mm : sequence of float
        Of each slice.
    """
    logits, features = read_series(parts, batches, positions_mm, manifest)
    return dataclasses.replace(logits, areas=read_areas(parts, features))


@torch.inference_mode()
def read_series(
    parts: Runnable,
    batches: Iterable[Tensor],
    positions_mm: Sequence[float],
    manifest: Manifest,
) -> tuple[SeriesLogits, Tensor]:
    """Return the logits of one series without areas, and the features (slice, width) of them.

    So that who serves may lose the areas and keep the rest; the parameters are those of
    `read_logits`.
    """
    read = [_read_batch(parts, images) for images in batches]
    own = np.concatenate([logits.double().cpu().numpy() for _, logits in read])
    features = torch.cat([features for features, _ in read])
    rule = manifest.calibration.series_rule
    if parts.context is None or manifest.context is None:
        return SeriesLogits(slices=own, series=series_logits(own, rule)), features
    whole = _in_context(parts.context, features, positions_mm)
    return combine(own, rule, whole, manifest.context), features


@torch.inference_mode()
def read_areas(parts: Runnable, features: Tensor) -> Floats | None:
    """Return the areas (slice, label) of a joint network that draws masks, None of any other."""
    of_joint = parts.areas.get("joint")
    found = None if of_joint is None else of_joint(features)
    return None if found is None else found.double().cpu().numpy()


def _read_batch(parts: Runnable, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and logits of a batch, of the joint network or of the pair."""
    if "joint" in parts.encoders:
        features = parts.encoders["joint"](images)
        return features, parts.heads["joint"](features)
    features = parts.encoders["hemorrhage"](images)
    whole = parts.heads["hemorrhage"](features)
    return features, torch.cat([whole, _kinds(parts, images, whole[:, 0] > 0)], dim=1)


def _kinds(parts: Runnable, images: Tensor, suspect: Tensor) -> Tensor:
    """Ask the second network of a pair, but only where the first sees blood."""
    kinds = torch.full((len(images), len(LABELS) - 1), NOT_ASKED, device=images.device)
    if bool(suspect.any()):
        kinds[suspect] = parts.heads["subtypes"](parts.encoders["subtypes"](images[suspect]))
    return kinds


def _in_context(
    context: ContextNet, features: Tensor, positions_mm: Sequence[float]
) -> SeriesLogits:
    slices, series, _ = read_whole(context, features, positions_mm)
    return SeriesLogits(slices=slices.double().cpu().numpy(), series=series.double().cpu().numpy())

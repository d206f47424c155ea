"""Weights to start from: torchvision's own where they can be had, a file where not."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from ichnode.domain.errors import ModelUnusable

IMAGENET_LICENCE = "ImageNet terms of access (non-commercial research)"
NO_STATE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What ``torch.load`` raises of a file that is anything else: its unpickler tries to read it."""
PATIENCE_S = 15.0
"""How long the hub may stay silent, in seconds."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """What training started from, for the provenance of what comes of it.

    Attributes
    ----------
    name : str
        "torchvision ResNet50_Weights.IMAGENET1K_V2", or a file's name.
    digest : str
        sha256 of the tensors, independent of the file format.
    licence : str
        The terms that follow the weights.
    non_commercial : bool
        Whether they exclude commercial use.
    learnt_from : str
        Which head CT they have learnt from, as a bundle says it; "" of weights that never saw one.
    """

    name: str
    digest: str
    licence: str
    non_commercial: bool
    learnt_from: str = ""


def fetch_weights(
    backbone: str, source: Path | None = None
) -> tuple[Mapping[str, Tensor], InitialWeights]:
    """Return a state dictionary of torchvision's network of that name, and where it is from.

    ImageNet may be used for non-commercial research only. What a file was trained on cannot be
    seen from it, so it is taken to be ImageNet too.

    Parameters
    ----------
    backbone : str
        torchvision's name of the network.
    source : Path, optional
        A .pth or .safetensors file; by default torchvision's own weights.

    Raises
    ------
    ModelUnusable
        When they cannot be had; the message says what to download and which option to give.
    """
    if source is None:
        state, name = _from_hub(backbone)
    else:
        state, name = _from_file(source), source.name
    return state, InitialWeights(name, digest(state), IMAGENET_LICENCE, non_commercial=True)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names and values of a state dictionary."""
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(name.encode())
        flat = state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        whole.update(flat.numpy().tobytes())
    return whole.hexdigest()


def _from_hub(backbone: str) -> tuple[Mapping[str, Tensor], str]:
    weights = torchvision.models.get_model_weights(backbone).DEFAULT
    try:
        with _impatient(PATIENCE_S):
            state = weights.get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a file that is another
        raise ModelUnusable(
            f"The ImageNet weights of {backbone} cannot be downloaded here "
            f"({type(error).__name__}): fetch {weights.url} on a machine that can and give that "
            "file with `--weights FILE`, or start from random weights with `--weights none`."
        ) from error
    return state, f"torchvision {weights}"


@contextlib.contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Let no new connection wait longer than this; torch's download sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_file(path: Path) -> Mapping[str, Tensor]:
    state: Mapping[str, Tensor]
    try:
        if path.suffix == ".safetensors":
            state = load_tensors(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelUnusable(f"The weights {path} cannot be read.") from error
    except (SafetensorError, *NO_STATE) as error:
        raise ModelUnusable(
            f"The weights {path} are no state dictionary; give a .pth or .safetensors file."
        ) from error
    if not _is_state(state):
        raise ModelUnusable(f"The weights {path} are no state dictionary of tensors alone.")
    return state


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and all(isinstance(t, Tensor) for t in content.values())

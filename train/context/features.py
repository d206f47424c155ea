"""What a finished encoder sees in each slice, computed once and kept.

A folder for each encoder and cache, named by a digest of both::

    features.f16     float16 (row of the cache, width); holes where nothing was asked for
    logits.f32       float32 (row of the cache, output): what the encoder's own head says
    known.u8         1 for each row that is there

The encoder does not learn and does not move: images are as they are, without augmentation, and its
normalisation runs on the statistics that it has. A digest before and after says so. A computation
that was interrupted goes on with the rows that are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import nn

from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.manifest import PreprocessSpec, canonical
from train.data.cache import Cache
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.predicting import Quick, embed

_CHUNK = 1024  # slices that are lost at most when it is interrupted
_DIGITS = 24
EXACT = Quick()
"""As serving computes."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The slices of a cache as an encoder sees them, memory-mapped; only what was asked for.

    Attributes
    ----------
    features : ndarray, float16, (row of the cache, width)
    logits : ndarray, float32, (row of the cache, output)
    known : ndarray, bool, (row of the cache,)
        Which rows are there.
    """

    folder: Path
    features: npt.NDArray[np.float16] = field(repr=False)
    logits: npt.NDArray[np.float32] = field(repr=False)
    known: npt.NDArray[np.bool_] = field(repr=False)


def features_of(
    network: SliceNetwork,
    slices: Slices,
    spec: PreprocessSpec,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    how: Quick = EXACT,
) -> Features:
    """Return the features of some slices, computing what is not known yet.

    Parameters
    ----------
    network : SliceNetwork
        Finished; it is left as it is, to the last bit.
    folder : Path
        Where features are kept, each encoder and cache in a folder of its own.
    how : Quick
        Arithmetic and batch size; ``shown`` names the progress bar.

    Raises
    ------
    TrainingError
        When features are too large for float16: such an encoder has diverged.
    """
    own = folder / _key(network, slices.cache, spec, how)
    own.mkdir(parents=True, exist_ok=True)
    rows = len(slices.cache.slices)
    features = _mapped(own / "features.f16", np.dtype("<f2"), (rows, network.feature_width))
    logits = _mapped(own / "logits.f32", np.dtype("<f4"), (rows, network.outputs))
    known = _mapped(own / "known.u8", np.dtype(np.uint8), (rows,))
    with unmoved(network):
        for some in _missing(slices, known, how.shown):
            part = slices.where(some)
            seen, said = embed(network, part, spec, device=device, how=Quick(how.dtype, how.batch))
            if not np.isfinite(seen).all():
                raise TrainingError(
                    "A feature is not finite in float16: the slice network diverged; train it "
                    "again with a lower learning rate."
                )
            features[part.rows], logits[part.rows] = seen, said
            features.flush()
            logits.flush()
            known[part.rows] = 1
    return Features(own, features, logits, known.astype(bool))


def _missing(
    slices: Slices, known: npt.NDArray[np.uint8], shown: str
) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which slices of the view come next, a chunk at a time."""
    missing = np.flatnonzero(known[slices.rows] == 0)
    with Progress(disable=not shown) as bar:
        task = bar.add_task(shown, total=len(slices), completed=len(slices) - len(missing))
        for first in range(0, len(missing), _CHUNK):
            some = np.zeros(len(slices), bool)
            some[missing[first : first + _CHUNK]] = True
            yield some
            bar.advance(task, int(some.sum()))


def _mapped(path: Path, kind: np.dtype[np.generic], shape: tuple[int, ...]) -> np.memmap:
    """Map a file of just this size, made of holes where it is new."""
    path.touch()
    size = int(np.prod(shape)) * kind.itemsize
    with path.open("r+b") as file:
        file.truncate(size)
    return np.memmap(path, kind, "r+", shape=shape)


def _key(network: SliceNetwork, cache: Cache, spec: PreprocessSpec, how: Quick) -> str:
    digest = hashlib.sha256()
    digest.update(state_digest(network).encode())
    digest.update(canonical(spec).encode())
    digest.update(str(how.dtype).encode())
    for name in ("cache.json", "index.jsonl"):
        digest.update(hashlib.sha256((cache.folder / name).read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]


def state_digest(network: nn.Module) -> str:
    """Return a digest of every weight and every buffer, the statistics of normalisation included.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        kept = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {kept.dtype} {tuple(kept.shape)}\n".encode())
        digest.update(kept.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def unmoved(network: nn.Module) -> Iterator[None]:
    """Make sure that what is done within leaves every weight and buffer of a network as it is.

    Gradients that are off keep no statistics still: only evaluation mode does, and only a look at
    the buffers proves it.

    Raises
    ------
    RuntimeError
        When something moved.
    """
    before = state_digest(network)
    yield
    if state_digest(network) != before:
        raise RuntimeError("the encoder was to stay as it is, and its weights or buffers moved")

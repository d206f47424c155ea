"""A network over the whole series: each slice read in the light of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import CONTEXT_ARCHITECTURE

PLACES = 2
LONGEST = 64
"""Slices of a series that are read at most; a head in slices of 5 mm has some 35."""
_USUAL_STEP_MM = 5.0
_GREATEST_STEP = 3.0  # usual steps; a longer one says no more than that slices are missing
_ATTENTION = 128


class ContextOutput(NamedTuple):
    """Logits of some series.

    Attributes
    ----------
    slices : Tensor, (b, L, label)
        Of each slice, with its neighbours known.
    series : Tensor, (b, label)
        Of each series.
    weak : Tensor, (b, label)
        Of each series, from its slices one by one and not in order: what labels of whole series
        teach without any label of a slice.
    """

    slices: Tensor
    series: Tensor
    weak: Tensor


class ContextNet(nn.Module):
    """Reads the features of a series' slices in order, both ways; answers for slices and series.

    Parameters
    ----------
    feature_width : int
        Length of a slice's features.
    outputs : int
        Labels.
    hidden, layers : int
        Size and number of the recurrent layers, in each direction.
    dropout : float
        Between the recurrent layers, and before the heads.

    References
    ----------
    Cho K et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014.
    Ilse M et al., Attention-based Deep Multiple Instance Learning, ICML 2018.
    """

    def __init__(
        self,
        feature_width: int,
        outputs: int = len(LABELS),
        hidden: int = 256,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.feature_width = feature_width
        width = 2 * hidden
        self.architecture = f"bigru_{hidden}x{layers}"
        self.enter = nn.Sequential(
            nn.LayerNorm(feature_width),
            nn.Linear(feature_width, width),
            nn.GELU(),
            nn.LayerNorm(width),
        )
        self.place = nn.Linear(PLACES, width)
        self.weak = AttentionHead(width, outputs)
        self.recurrent = nn.GRU(
            width,
            hidden,
            num_layers=layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.drop = nn.Dropout(dropout)
        self.slice_head = nn.Linear(width, outputs)
        self.series_head = AttentionHead(width, outputs)

    def forward(self, features: Tensor, places: Tensor, present: Tensor) -> ContextOutput:
        """Read some series, padded to one length.

        Parameters
        ----------
        features : Tensor, float32, (b, L, feature_width)
        places : Tensor, float32, (b, L, 2)
            As `places_of` gives them.
        present : Tensor, bool, (b, L)
            Which are slices and not padding; the slices come first. What stands in the padding
            changes nothing, and the logits of its slices mean nothing.
        """
        padding = ~present[..., None]
        features, places = features.masked_fill(padding, 0), places.masked_fill(padding, 0)
        entered = self.enter(features) + self.place(places)
        ordered = self.drop(self._in_order(entered, present))
        return ContextOutput(
            slices=self.slice_head(ordered),
            series=self.series_head(ordered, present),
            weak=self.weak(self.drop(entered), present),
        )

    def _in_order(self, entered: Tensor, present: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            entered, present.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        read, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=entered.shape[1]
        )
        return read


class AttentionHead(nn.Module):
    """For each label, a weighted mean of the slices and a linear answer; it learns the weights."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.look = nn.Linear(width, _ATTENTION)
        self.choose = nn.Linear(_ATTENTION, outputs, bias=False)
        self.answer = nn.Linear(width, outputs)

    def forward(self, read: Tensor, present: Tensor) -> Tensor:
        """Return logits (b, label) of what was read (b, L, width)."""
        scores = self.choose(torch.tanh(self.look(read)))
        shares = scores.masked_fill(~present[..., None], float("-inf")).softmax(dim=1)
        # The answer is linear, so the mean of the answers is the answer to the mean.
        weighted: Tensor = (shares * self.answer(read)).sum(dim=1)
        return weighted


def read_whole(
    network: ContextNet, features: Tensor, positions_mm: Sequence[float]
) -> ContextOutput:
    """Read one series, of any length; what is said of a slice that is left out is its nearest's.

    Parameters
    ----------
    features : Tensor, float32, (slice, feature_width)
        In anatomical order.

    Returns
    -------
    ContextOutput
        Logits (slice, label) and (label,).
    """
    chosen = spread_out(len(features))
    read = features[chosen][None]
    places = places_of([positions_mm[index] for index in chosen.tolist()])[None]
    present = torch.ones(read.shape[:2], dtype=torch.bool, device=features.device)
    found = network(read, places.to(features.device), present)
    nearest = (torch.arange(len(features))[:, None] - chosen).abs().argmin(dim=1)
    return ContextOutput(found.slices[0, nearest], found.series[0], found.weak[0])


def spread_out(count: int) -> Tensor:
    """Return which of so many slices are read: all, or `LONGEST` of them at even distances.

    Returns
    -------
    Tensor, int64, (slice,)
    """
    return torch.linspace(0, count - 1, min(count, LONGEST), dtype=torch.float64).round().long()


def places_of(positions_mm: Sequence[float]) -> Tensor:
    """Say where each slice is: from 0 at the feet to 1 at the head, and how far from the last.

    The distance is counted in 5 mm, at most three of them; the first slice has that of the second.

    Returns
    -------
    Tensor, float32, (L, 2)
    """
    count = len(positions_mm)
    if count == 1:
        return torch.tensor([[0.5, 1.0]])
    steps = np.abs(np.diff(np.asarray(positions_mm, np.float64))) / _USUAL_STEP_MM
    steps = np.clip(np.concatenate([steps[:1], steps]), 0, _GREATEST_STEP)
    index = np.linspace(0, 1, count)
    return torch.from_numpy(np.stack([index, steps], axis=1).astype(np.float32))


def build_context(architecture: str, feature_width: int) -> ContextNet:
    """Make an untrained network from its name, ``bigru_<hidden>x<layers>``.

    Raises
    ------
    KeyError
        When there is no architecture of that name.
    """
    named = CONTEXT_ARCHITECTURE.fullmatch(architecture)
    if named is None:
        raise KeyError(architecture)
    return ContextNet(feature_width, hidden=int(named[1]), layers=int(named[2]))

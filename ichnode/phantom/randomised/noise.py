"""Smooth random fields over the points of a series, of any wave length, by small matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_WIDTH = 0.55  # of the bells that a field is the sum of, in wave lengths


@dataclass(eq=False)
class Fields:
    """Draws fields over a grid of planes, rows and columns.

    Parameters
    ----------
    planes_mm, rows_mm, columns_mm : Tensor, float32
        Where they lie along their axes.
    chance : torch.Generator
        What is drawn from; of the same device.
    """

    planes_mm: Tensor
    rows_mm: Tensor
    columns_mm: Tensor
    chance: torch.Generator = field(repr=False)
    _bells: dict[float, tuple[Tensor, ...]] = field(default_factory=dict, repr=False)

    def draw(self, *lengths_mm: float, weights: Sequence[float] | None = None) -> Tensor:
        """Return a field (plane, row, column) of zero mean and unit variance.

        Parameters
        ----------
        lengths_mm : float
            The wave lengths that it is the sum of.
        weights : sequence of float, optional
            Of each; all the same by default.
        """
        shares = weights or (1.0,) * len(lengths_mm)
        total: Tensor | None = None
        for length, share in zip(lengths_mm, shares, strict=True):
            part = self._one(length)
            total = part.mul_(share) if total is None else total.add_(part, alpha=share)
        assert total is not None
        return total.mul_(sum(share**2 for share in shares) ** -0.5)

    def _one(self, length_mm: float) -> Tensor:
        across = self._bells.get(length_mm)
        if across is None:
            axes = (self.planes_mm, self.rows_mm, self.columns_mm)
            across = tuple(_bells(axis, length_mm) for axis in axes)
            self._bells[length_mm] = across
        planes, rows, columns = across
        counts = [bells.shape[1] for bells in across]
        white = torch.randn(counts, generator=self.chance, device=planes.device)
        along = (planes @ white.flatten(1)).reshape(-1, *counts[1:])
        found: Tensor = rows @ along @ columns.T
        return found


def _bells(axis_mm: Tensor, length_mm: float) -> Tensor:
    """Return the weights (place, bell) of bells that stand a wave length apart."""
    low, high = float(axis_mm.min()), float(axis_mm.max())
    count = int((high - low) / length_mm) + 4
    centres = low + length_mm * (torch.arange(count, device=axis_mm.device) - 1.5)
    weights = torch.exp(-0.5 * ((axis_mm[:, None] - centres) / (_WIDTH * length_mm)) ** 2)
    return weights / weights.square().sum(dim=1, keepdim=True).sqrt()

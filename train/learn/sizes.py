"""After images grew: batch normalisation is measured again at the size that serving uses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_statistics(network: nn.Module) -> bool:
    """Say whether a network has batch normalisation at all."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the statistics of batch normalisation anew, as the mean over some batches.

    The running statistics are of smaller images, of disturbed ones and, in averaged weights, of
    other weights. Only normalisation is in training mode meanwhile; weights do not change.

    Parameters
    ----------
    batches : iterable of Tensor, float32, (n, channel, y, x)
        Images as serving will show them.

    Returns
    -------
    int
        How many batches it were; 0 leaves everything as it was.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    seen = 0
    network.eval()
    for images in batches:
        if not seen:
            _start_over(norms)
        network(images)
        seen += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return seen


def _start_over(norms: list[_BatchNorm]) -> None:
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()

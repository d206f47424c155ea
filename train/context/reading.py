"""What slice network and context network say of the same series, beside what is true."""

from __future__ import annotations

import numpy as np
import torch

from ichnode.nets.calibration import series_logits
from ichnode.nets.context import ContextNet, read_whole
from train.context.features import Features
from train.data.views import Slices
from train.predictions import Predictions
from train.truth import beside_truth, whole_series


@torch.inference_mode()
def read_series(
    context: ContextNet,
    features: Features,
    slices: Slices,
    rule: str,
    device: torch.device | str = "cpu",
) -> tuple[Predictions, Predictions]:
    """Return what each of the two says of some whole series, uncalibrated.

    Parameters
    ----------
    features : Features
        Of all of these slices, by the slice network.
    rule : str
        How a series' logit follows from the slice network's; see
        `ichnode.nets.calibration.series_logits`.

    Returns
    -------
    Predictions
        Of the slice network.
    Predictions
        Of the context network.
    """
    context = context.to(device).eval()
    positions_mm = slices.table["position_mm"].to_numpy(np.float64)
    own, whole = [], []
    for chosen in whole_series(slices):
        rows = slices.rows[chosen]
        logits = np.asarray(features.logits[rows], np.float64)
        own.append(beside_truth(slices, chosen, logits, series_logits(logits, rule)))
        seen = torch.from_numpy(np.asarray(features.features[rows], np.float32)).to(device)
        found = read_whole(context, seen, positions_mm[chosen].tolist())
        whole.append(
            beside_truth(
                slices,
                chosen,
                found.slices.double().cpu().numpy(),
                found.series.double().cpu().numpy(),
            )
        )
    return Predictions(tuple(own)), Predictions(tuple(whole))

"""What a model said is kept as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.predictions import (
    Predictions,
    SeriesPrediction,
    read_predictions,
    write_predictions,
)


def test_what_is_kept_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    """Logits, unknown truths and facts, of several series of different length."""
    rng = np.random.default_rng(1)
    series = []
    for number, slices in enumerate((3, 5)):
        truth = rng.integers(0, 2, (slices, 6)).astype(float)
        truth[0, 3] = np.nan
        series.append(
            SeriesPrediction(
                dataset="simulated",
                patient=f"p{number}",
                study=f"s{number}",
                series=f"e{number}",
                slice_keys=tuple(map(str, range(slices))),
                slice_logits=rng.standard_normal((slices, 6)),
                series_logits=rng.standard_normal(6),
                slice_truth=truth,
                series_truth=np.full(6, np.nan),
                facts={"manufacturer": "A", "thickness_mm": 5.0, "repaired": False},
            )
        )
    whole = Predictions(tuple(series))
    write_predictions(tmp_path / "kept.jsonl", whole)
    kept = read_predictions(tmp_path / "kept.jsonl")
    assert kept.patients == whole.patients
    assert kept.series[0].facts == whole.series[0].facts
    assert kept.series[1].slice_keys == whole.series[1].slice_keys
    for name in ("slice_logits", "slice_truth", "series_logits", "series_truth"):
        assert np.array_equal(getattr(kept, name), getattr(whole, name), equal_nan=True)
    assert np.isnan(kept.series[0].slice_truth[0, 3])

"""What is counted of a dataset, and which slices are shown of it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ichnode.domain.findings import LABELS
from tests.exploring_kit import explored, record
from tests.training_data import SPEC, ToySource
from train.data.cache import build_cache
from train.explore.counting import combinations, count, filtered, groups_by, storage
from train.explore.examples import draw_examples

NAN = float("nan")


def test_unknown_is_neither_with_nor_without():
    """What nobody knows is in no share, and counted by itself."""
    found = count(np.array([1, 0, 0, NAN, NAN], np.float32))
    assert (found.present, found.absent, found.unknown, found.known) == (1, 2, 2, 3)
    assert found.share == 1 / 3
    nothing = count(np.array([NAN], np.float32))
    assert nothing.share is None
    assert nothing.as_json()["share"] is None


def test_kinds_are_counted_as_they_occur_together():
    """The most frequent combination first; where one kind is not known, none is counted."""
    labels = np.array(
        [[1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0], [0] * 6, [1, 1, NAN, 0, 0, 0]],
        np.float32,
    )
    assert combinations(labels) == [(("subarachnoid", "subdural"), 2), (("epidural",), 1)]


def test_the_largest_groups_are_named_and_the_rest_is_others():
    """Nine makers and a blank: seven by name, the rest together, what is not stated last."""
    makers = [f"maker {n}" for n in range(9) for _ in range(9 - n)] + ["", ""]
    made = explored([record(n, n % 2 == 0, {}) for n in range(len(makers))])
    groups = groups_by(made, makers)
    names = [one.name for one in groups]
    assert names == [*(f"maker {n}" for n in range(7)), "others", "not stated"]
    assert [one.series for one in groups] == [9, 8, 7, 6, 5, 4, 3, 3, 2]
    assert sum(one.slices for one in groups) == len(made.slices)
    assert sum(one.with_blood.present for one in groups) == (made.series["any"] == 1).sum()


def test_storage_is_said_in_words():
    """Bits, sign and intercept; what is not stated is called so."""
    facts = {"bits_stored": 12.0, "pixel_representation": 0.0, "intercept_hu": -1024.0}
    made = explored([record(0, True, facts), record(1, False, {"bits_stored": 8.0}),
                     record(2, True, {})])  # fmt: skip
    assert storage(made) == ["12 bits, unsigned, intercept -1024", "8 bits", "not stated"]


def test_filters_count_the_bleeds_that_they_drop():
    """The paper's filter drops slices with blood that the careful one keeps."""
    made = explored([record(n, True, {}) for n in range(3)])
    careful, paper = filtered(made)
    fraction = made.slices["brain_fraction"]
    assert careful.dropped == (fraction < 0.02).sum() == 3
    assert paper.dropped == (fraction < 0.20).sum()
    assert paper.positives["subdural"] == 9
    assert careful.positives_dropped["subdural"] == 0
    assert (
        paper.positives_dropped["subdural"]
        == ((fraction < 0.20) & (made.slices["subdural"] == 1)).sum()
    )


def test_examples_show_what_they_stand_for(tmp_path):
    """A slice without blood and one of the only kind that is there, in five windows."""
    cache = build_cache(tmp_path / "cache", ToySource(count=4), SPEC, workers=1)
    nothing, bleeding = draw_examples(cache)
    assert (nothing.kind, bleeding.kind) == ("none", "intraparenchymal")
    assert bleeding.where == "slice 3 of 6"
    assert len(bleeding.views) == 5
    seen = {kind: shown(one.views["stroke"]) for kind, one in (("no", nothing), ("yes", bleeding))}
    assert seen["yes"].mean() > seen["no"].mean()
    assert draw_examples(cache)[1].views == bleeding.views


def test_where_slices_are_not_labelled_their_series_stands_for_them(tmp_path):
    """And the page says that the slice may not show it."""
    source = ToySource(count=2, unlabelled=frozenset(("0", "1")))
    cache = build_cache(tmp_path / "cache", source, SPEC, workers=1)
    assert draw_examples(cache) == []
    cache.slices.loc[cache.slices["series"] == "series0", ["series_any", "series_subdural"]] = 1.0
    (one,) = draw_examples(cache)
    assert one.kind == "subdural"
    assert "may not show it" in one.told


def test_every_label_is_counted():
    """The six labels, in their order."""
    made = explored([record(0, True, {})])
    assert made.slice_labels.shape == (8, len(LABELS))
    assert made.series_labels.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
    assert made.series["step_mm"].tolist() == [5.0]
    assert made.series["slices"].tolist() == [8]


def shown(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), np.float64)

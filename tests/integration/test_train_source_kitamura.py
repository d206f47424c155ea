"""Kitamura's pictures as a source, on a miniature set of simulated heads in its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ichnode.nets.manifest import PreprocessSpec
from tests.miniatures import write_kitamura
from train.data.cache import build_cache
from train.data.sources.kitamura import Kitamura, open_source
from train.errors import TrainingError, Unusable


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("kitamura")
    return folder, write_kitamura(folder)


@pytest.fixture(scope="module")
def source(written) -> Kitamura:
    return open_source(str(written[0]), None, b"key")


def test_the_miniature_has_the_blank_in_its_header(written):
    """The published header is "id, hemorrhage", with a blank before the second name."""
    assert (written[0] / "labels.csv").read_text().startswith("id, hemorrhage\n")


@pytest.mark.parametrize("job", ["000", "001", "002"])
def test_grey_is_read_as_the_brain_window(written, source, job):
    """Black is 0 HU and white 80, whether the picture is grey, coloured or has an alpha channel."""
    series = source.read(job)
    grey = written[1][job].astype(np.float64)
    assert series.hu.shape == (1, *grey.shape)
    np.testing.assert_allclose(series.hu[0], grey / 255 * 80, atol=0.5 + 1e-9)


def test_each_picture_is_a_series_of_one_slice_and_any_alone_is_known(source):
    """The kinds are NaN, not 0; every picture is a patient."""
    labels = {job: source.read(job).slice_labels for job in ("000", "001", "002")}
    assert [one[0, 0] for one in labels.values()] == [1, 0, 1]
    assert all(np.isnan(one[0, 1:]).all() for one in labels.values())
    assert len({source.read(job).patient for job in labels}) == 3


def test_a_picture_that_is_not_square_keeps_its_shape(source):
    """The longer side is the field of view; pixels are as high as they are wide."""
    _, down_mm, across_mm = source.read("002").spacing_mm
    assert down_mm == across_mm == pytest.approx(230 / 64)


def test_a_damaged_picture_is_quarantined(source, tmp_path):
    """Three go into a cache, and the damaged one is named with its reason."""
    spec = PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),))
    cache = build_cache(tmp_path / "cache", source, spec, workers=1)
    assert len(cache.slices) == 3
    assert cache.quarantine[["job", "reason"]].values.tolist() == [["003", "undecodable"]]
    assert cache.licences["kitamura"].non_commercial


def test_what_is_missing_is_quarantined(tmp_path):
    """A row without a picture, and a picture whose row is blank."""
    write_kitamura(tmp_path)
    (tmp_path / "labels.csv").write_text("id, hemorrhage\n0,\n77,1\n")
    source = open_source(str(tmp_path), None, b"")
    with pytest.raises(Unusable, match="no label"):
        source.read("000")
    with pytest.raises(Unusable, match="no file"):
        source.read("077")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,blood\n0,1\n", "no column hemorrhage"),
        ("id, hemorrhage\n0,2\n", "Line 2 of labels.csv says neither"),
        ("id, hemorrhage\nx,1\n", "no whole number in id"),
        ("id, hemorrhage\n0,1\n0,0\n", "Line 3 of labels.csv labels a picture differently"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, text, sentence):
    """The sentence names the line, and says to take the file as it was published."""
    write_kitamura(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(TrainingError, match=sentence):
        open_source(str(tmp_path), None, b"")

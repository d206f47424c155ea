"""RSNA 2019 as a source, on a miniature set of simulated heads in its layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from tests.miniatures import Truth, rsna_rows, write_csv, write_rsna
from train.data.cache import build_cache
from train.data.reading import pseudonym
from train.data.sources.known import open_known
from train.data.sources.rsna import Rsna, read_stage_2
from train.errors import TrainingError, Unusable

FIRST, WRAPPED, DAMAGED = "ID_5e71e50000", "ID_5e71e50001", "ID_5e71e50002"
KEY = b"key"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    folder = tmp_path_factory.mktemp("rsna")
    return folder, write_rsna(folder)


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def opened(folder: Path) -> Rsna:
    source = open_known("rsna", str(folder), None, KEY)
    assert isinstance(source, Rsna)
    return source


def relabelled(folder: Path, rows: list[tuple[str, object]], columns=("ID", "Label")) -> Path:
    """A CSV of other labels, to be read by itself."""
    write_csv(folder / "stage_2_train.csv", columns, rows)
    return folder / "stage_2_train.csv"


def test_series_are_put_together_by_their_headers(written):
    """Files named at random become series whose slices lie from the feet to the head."""
    folder, truths = written
    source = opened(folder)
    assert list(source.jobs()) == [FIRST, WRAPPED, DAMAGED]
    series = source.read(FIRST)
    assert series.slice_keys == truths[FIRST].keys
    np.testing.assert_array_equal(series.hu, truths[FIRST].hu)
    np.testing.assert_allclose(series.spacing_mm, (12.0, 3.75, 3.75), atol=1e-3)
    assert series.study == "ID_57ud10000"


def test_labels_belong_to_their_slices(written):
    """The five kinds and "any" of the CSV stand beside each slice, in our order."""
    folder, truths = written
    for job in (FIRST, WRAPPED):
        series = opened(folder).read(job)
        np.testing.assert_array_equal(series.slice_labels, truths[job].labels.astype(np.float32))
        assert np.isnan(series.series_labels).all()
    assert truths[FIRST].labels[:, LABELS.index("subdural")].any()


def test_a_lost_sign_is_put_right(written):
    """A series that was wrapped into 12 bits reads as it was scanned, and says so.

    But for single pixels of air inside the head: below -1000 HU they cannot be told from metal.
    """
    folder, truths = written
    series = opened(folder).read(WRAPPED)
    assert (series.hu == truths[WRAPPED].hu).mean() > 0.999
    assert (truths[WRAPPED].hu[series.hu != truths[WRAPPED].hu] < -1000).all()
    assert series.facts.repaired
    assert (series.facts.bits_stored, series.facts.pixel_representation) == (12, 0)
    assert (series.facts.window_center, series.facts.window_width) == (36, 80)


def test_a_damaged_file_costs_its_slice_alone(written):
    """Of a series with a file that is too short, the other slices stay, with their labels."""
    folder, truths = written
    series = opened(folder).read(DAMAGED)
    assert [one.reason for one in series.left_out] == ["undecodable"]
    assert series.slice_keys == truths[DAMAGED].keys[:-1]
    np.testing.assert_array_equal(series.slice_labels, truths[DAMAGED].labels[:-1])


def test_patients_are_pseudonyms_and_stay_together(written):
    """Two series of one patient have one pseudonym, which the key decides."""
    folder, _ = written
    source = opened(folder)
    first, second, third = (source.read(job).patient for job in (FIRST, WRAPPED, DAMAGED))
    assert first == second == pseudonym("", "ID_0a1b2c3d", key=KEY)
    assert third != first
    other = open_known("rsna", str(folder), None, b"another")
    assert other.read(FIRST).patient != first


def test_a_cache_can_be_built_of_it(written, tmp_path):
    """The whole way into a cache: all series in, the damaged slice in quarantine, NC kept."""
    folder, truths = written
    spec = PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),))
    cache = build_cache(tmp_path / "cache", opened(folder), spec, workers=1)
    assert cache.slices["series"].nunique() == 3
    assert cache.slices["any"].sum() == sum(
        truths[job].labels[: len(truths[job].labels) - (job == DAMAGED), 0].sum() for job in truths
    )
    assert cache.licences["rsna"].non_commercial
    assert list(cache.quarantine["reason"]) == ["undecodable"]


def test_the_other_name_of_the_image_folder_will_do(tmp_path):
    """Older scripts unpack the images into stage_2_train_images."""
    write_rsna(tmp_path, images="stage_2_train_images")
    assert len(opened(tmp_path).jobs()) == 3


def test_rows_that_are_there_twice_are_dropped_first(written):
    """The published file has rows twice; labels are neither averaged nor refused for it."""
    folder, _ = written
    stated, said = read_stage_2(folder / "stage_2_train.csv")
    assert said == ("6 rows were there twice.",)
    assert stated.index.is_unique
    assert set(np.unique(stated.to_numpy())) == {0.0, 1.0}


def test_rows_that_differ_are_refused(written, tmp_path):
    """One image labelled twice and differently is nothing to choose from."""
    _, truths = written
    rows = rsna_rows(truths[FIRST])
    name, label = rows[0]
    with pytest.raises(TrainingError, match="1 rows that contradict"):
        read_stage_2(relabelled(tmp_path, [*rows, (name, 1 - label)]))


def test_any_that_is_not_the_greatest_of_the_kinds_is_counted_and_left_out(tmp_path):
    """A slice with a kind and without "any" is quarantined; its neighbours stay."""
    truths = write_rsna(tmp_path)
    name = truths[FIRST].keys[0]
    table = pd.read_csv(tmp_path / "stage_2_train.csv").drop_duplicates()
    table.loc[table["ID"] == f"{name}_epidural", "Label"] = 1
    table.loc[table["ID"] == f"{name}_any", "Label"] = 0
    table.to_csv(tmp_path / "stage_2_train.csv", index=False)
    source = opened(tmp_path)
    assert source.remarks == ("1 images are left out, whose labels contradict themselves.",)
    series = source.read(FIRST)
    assert series.left_out[0].key == name
    assert series.left_out[0].reason == "labels contradict themselves"
    assert name not in series.slice_keys
    assert len(series.hu) == len(truths[FIRST].hu) - 1


def test_labels_that_are_missing_are_not_known(tmp_path):
    """A blank label and an image without rows are NaN, and never 0."""
    truths = write_rsna(tmp_path)
    blank, gone = truths[FIRST].keys[:2]
    table = pd.read_csv(tmp_path / "stage_2_train.csv").drop_duplicates()
    table = table[~table["ID"].str.startswith(gone)].astype({"Label": object})
    table.loc[table["ID"] == f"{blank}_subdural", "Label"] = ""
    table.to_csv(tmp_path / "stage_2_train.csv", index=False)
    source = opened(tmp_path)
    series = source.read(FIRST)
    assert np.isnan(series.slice_labels[0, LABELS.index("subdural")])
    assert np.isnan(series.slice_labels[1]).all()
    assert not np.isnan(series.slice_labels[2:]).any()
    assert source.remarks == ("1 images have no labels.",)


def test_headers_are_read_once(written, own_caches):
    """What the headers said is kept, and another opening does not ask them again."""
    folder, _ = written
    before = opened(folder)
    kept = list(own_caches.rglob("*.parquet"))
    assert len(kept) == 1
    table = pd.read_parquet(kept[0])
    table.loc[table["series_uid"] == WRAPPED, "series_uid"] = "ID_another"
    table.to_parquet(kept[0], index=False)
    assert "ID_another" in opened(folder).jobs()
    assert "ID_another" not in before.jobs()


def test_a_file_that_is_no_dicom_is_quarantined_by_itself(tmp_path):
    """A file without a header belongs to no series and is a job of its own."""
    write_rsna(tmp_path)
    (tmp_path / "stage_2_train" / "ID_000000bad.dcm").write_bytes(b"nothing")
    source = opened(tmp_path)
    assert source.jobs()[-1] == "file-ID_000000bad"
    with pytest.raises(Unusable, match="undecodable"):
        source.read(source.jobs()[-1])
    assert len(source.read(FIRST).hu) == 12


def test_a_file_that_was_fetched_again_is_read_again(tmp_path):
    """What was damaged is not remembered as such for ever."""
    write_rsna(tmp_path)
    path = next((tmp_path / "stage_2_train").glob("*.dcm"))
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert f"file-{path.stem}" in opened(tmp_path).jobs()
    path.write_bytes(whole)
    for _ in range(2):
        assert f"file-{path.stem}" not in opened(tmp_path).jobs()


def test_it_travels_to_other_processes(written):
    """A source is read by a pool, so it comes whole out of a pickle."""
    folder, truths = written
    copy = pickle.loads(pickle.dumps(opened(folder)))
    np.testing.assert_array_equal(copy.read(FIRST).hu, truths[FIRST].hu)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "stage_2_train.csv").unlink(), "no stage_2_train.csv"),
        (lambda f: (f / "stage_2_train").rename(f / "elsewhere"), "neither stage_2_train nor"),
        (lambda f: relabelled(f, [("a", 1)], ("id", "label")), "columns ID and Label"),
        (lambda f: relabelled(f, [("ID_0_chronic", 1)]), "ends in none of"),
        (lambda f: relabelled(f, [("ID_0_any", 2)]), "neither 1 nor 0"),
        (lambda f: relabelled(f, [("ID_0_any", "yes")]), "cannot be read"),
        (lambda f: relabelled(f, [("ID_0_any", 1)]), "labels none of the images"),
    ],
)
def test_another_folder_is_refused_in_one_sentence(tmp_path, spoil, sentence):
    """What is not the dataset is refused, and the sentence says what is wrong."""
    write_rsna(tmp_path)
    spoil(tmp_path)
    with pytest.raises(TrainingError, match=sentence):
        opened(tmp_path)


def test_it_takes_no_other_labels(written):
    """The dataset has its own labels."""
    folder, _ = written
    with pytest.raises(TrainingError, match="leave --labels out"):
        open_known("rsna", str(folder), folder / "stage_2_train.csv", KEY)

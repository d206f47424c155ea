"""The splits: nobody ever moves, nobody is on two sides."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training_data import SPEC, ToySource
from train.data.cache import build_cache
from train.data.splits import (
    SPLITS,
    keep_shares,
    open_key,
    shared_patients,
    split_of,
    split_slices,
    twenty_percent_by_patient,
)
from train.data.views import Slices, all_slices
from train.errors import TrainingError

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    """Forty patients of a series each."""
    cache = build_cache(tmp_path_factory.mktemp("cache"), ToySource(40), SPEC, workers=1)
    return all_slices(cache, 1)


def test_a_patient_stays_where_the_formula_says() -> None:
    """As worked out once by another program: buckets 301, 686, 708, 877 and 947."""
    expected = {"a": "train", "l": "train", "c": "selection", "p": "calibration", "e": "holdout"}
    found = {patient: split_of(patient, KEY) for patient in expected}
    assert found == expected


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1), st.binary(min_size=1))
def test_the_split_depends_on_patient_and_key_alone(patient: str, key: bytes) -> None:
    """Asking again gives the same answer, and an answer there always is."""
    assert split_of(patient, key) == split_of(patient, key)
    assert split_of(patient, key) in SPLITS


def test_the_shares_are_kept() -> None:
    """Of many patients about 70, 10, 10 and 10 %; other shares likewise; nonsense is refused."""
    many = [split_of(f"patient {number}", KEY) for number in range(4000)]
    shares = [many.count(name) / 4000 for name in SPLITS]
    assert shares == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.02)
    assert {split_of(str(n), KEY, (0.5, 0.5, 0.0, 0.0)) for n in range(200)} == {
        "train",
        "selection",
    }
    with pytest.raises(ValueError, match="four parts"):
        split_of("a", KEY, (0.5, 0.5))


def test_another_key_deals_anew() -> None:
    """Some patients are elsewhere under another key."""
    other = bytes(32)
    assert any(split_of(str(n), KEY) != split_of(str(n), other) for n in range(50))


def test_adding_patients_moves_nobody(slices: Slices) -> None:
    """The first twenty are where they were when there were only twenty."""
    few = slices.of_patients({f"p{number}" for number in range(20)})
    before, after = split_slices(few, KEY), split_slices(slices, KEY)
    for name in SPLITS:
        assert set(before[name].table["patient"]) <= set(after[name].table["patient"])


def test_no_patient_is_in_two_splits_and_none_is_lost(slices: Slices) -> None:
    """Together the splits are all slices."""
    parts = split_slices(slices, KEY)
    assert not shared_patients(parts.values())
    assert sum(map(len, parts.values())) == len(slices)
    assert shared_patients([slices, parts["train"]]) == set(parts["train"].table["patient"])


def test_a_fifth_of_the_patients_for_the_paper(slices: Slices) -> None:
    """By patient, by seed, and never without anybody."""
    train, validation = twenty_percent_by_patient(slices, seed=3)
    assert validation.table["patient"].nunique() == 8
    assert train.table["patient"].nunique() == 32
    assert not shared_patients([train, validation])
    again = twenty_percent_by_patient(slices, seed=3)[1]
    other = twenty_percent_by_patient(slices, seed=4)[1]
    assert set(again.table["patient"]) == set(validation.table["patient"])
    assert set(other.table["patient"]) != set(validation.table["patient"])
    with pytest.raises(TrainingError, match="cannot be divided"):
        twenty_percent_by_patient(slices.of_patients({"p1"}), seed=3)


def test_a_key_is_made_once(tmp_path: Path) -> None:
    """It is random, readable by its owner alone, and the same ever after."""
    file = tmp_path / "made" / "patients.key"
    key = open_key(file)
    assert open_key(file) == key
    assert len(key) == 32
    assert file.stat().st_mode & 0o077 == 0
    assert open_key(tmp_path / "other.key") != key


def test_two_who_ask_at_once_get_one_key(tmp_path: Path) -> None:
    """Whoever comes second takes the key of the first, and nothing is left beside it."""
    file = tmp_path / "patients.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: open_key(file), range(32)))
    assert keys == {open_key(file)}
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_the_shares_of_a_site_never_change(tmp_path: Path) -> None:
    """With others, patients would move out of the holdout into training."""
    file = tmp_path / "shares.json"
    keep_shares(file, (0.5, 0.1, 0.15, 0.25))
    keep_shares(file, (0.5, 0.1, 0.15, 0.25))
    with pytest.raises(TrainingError, match="out of the locked holdout"):
        keep_shares(file, (0.7, 0.1, 0.1, 0.1))


@pytest.mark.parametrize("content", ["", "no key", "abcd"])
def test_a_damaged_key_is_not_replaced(tmp_path: Path, content: str) -> None:
    """A new key would move all patients; so the old one has to be found."""
    file = tmp_path / "patients.key"
    file.write_text(content)
    with pytest.raises(TrainingError, match="restore it from a copy"):
        open_key(file)
    assert file.read_text() == content

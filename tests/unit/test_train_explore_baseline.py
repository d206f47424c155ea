"""The metadata baseline: silent where metadata say nothing, loud where they tell the label."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.exploring_kit import explored, harmless, leaking, made_up, record
from train.explore.baseline import Metadata, metadata_baseline, metadata_of

QUICK = {"trees": 40, "draws": 200}


def test_a_leak_is_an_alarm_and_named():
    """Bits stored that tell the label four times out of five raise the alarm, by name."""
    found = metadata_baseline(metadata_of(made_up(160, leaking)), **QUICK)
    assert found.state == "alarm"
    assert found.area.low > 0.60
    assert 0.70 < found.balanced_accuracy < 0.90
    assert found.importances[0][0] == "bits_stored"
    assert found.importances[0][1] > 3 * max(abs(fall) for _, fall in found.importances[1:])


def test_harmless_metadata_are_clear():
    """Where nothing tells the label, the forest does as a coin does, and as the paper's."""
    found = metadata_baseline(metadata_of(made_up(200, harmless)), **QUICK)
    assert found.state == "clear"
    assert 0.38 < found.balanced_accuracy < 0.62
    assert found.area.low < 0.5 < found.area.high
    assert max(fall for _, fall in found.importances) < 0.06


def test_an_area_above_the_limit_with_a_wide_interval_is_worth_a_look():
    """Few patients prove nothing: the figure is shown, and no alarm is raised."""
    found = metadata_baseline(metadata_of(made_up(26, leaking, seed=3)), **QUICK)
    assert found.area.value > 0.60 > found.area.low
    assert found.state == "look"


def test_a_patient_is_never_on_both_sides():
    """What tells patients apart, and not their labels, is of no use on patients not seen."""
    rng = np.random.default_rng(0)
    records = []
    for patient in range(40):
        tag = float(rng.random())  # the same in all series of a patient
        records += [
            record(10 * patient + i, patient % 2 == 0, {"window_center": tag})
            | {"patient": f"p{patient}"}
            for i in range(6)
        ]
    found = metadata_baseline(metadata_of(explored(records)), **QUICK)
    assert found.patients == 40
    assert found.rows == 240
    assert found.area.value < 0.65


def test_age_and_sex_are_not_asked():
    """They are risks and no leak: a site whose patients with blood are older raises no alarm."""

    def older(rng, positive):
        sex = "M" if positive else "F"
        return {**harmless(rng, positive), "age_years": 80.0 if positive else 30.0, "sex": sex}

    metadata = metadata_of(made_up(120, older))
    assert not {"age_years", "sex"} & set(metadata.features)
    assert metadata_baseline(metadata, **QUICK).state == "clear"


def test_the_place_counts_for_slices_alone():
    """Blood lies where the brain is: the paper's level knows the place, the alarm's does not."""
    made = made_up(80, harmless)
    assert "place" not in metadata_of(made).features
    slices = metadata_of(made, "slice")
    assert "place" in slices.features
    assert len(slices.truth) == len(made.slices)
    found = metadata_baseline(slices, **QUICK)
    assert found.importances[0][0] in ("place", "position_mm")
    assert found.level == "slice"


def test_the_length_of_a_series_is_metadata():
    """As in the contest of 2019, where the number of images was worth something."""
    records = [record(n, n % 2 == 0, {}, slices=8 if n % 2 else 12) for n in range(60)]
    found = metadata_baseline(metadata_of(explored(records)), **QUICK)
    assert found.importances[0][0] == "slices"
    assert found.state == "alarm"


def test_what_is_the_same_everywhere_is_no_feature():
    """A column without a difference tells nothing, and is named; one that is blank in part may."""
    metadata = metadata_of(made_up(60, lambda rng, _: {"rows": 512.0, "columns": 512.0}))
    assert metadata.features == ()
    assert {"rows", "columns", "kernel", "dataset"} <= set(metadata.constant)
    found = metadata_baseline(metadata, **QUICK)
    assert found.state == "unknown"
    assert "the same everywhere" in found.sentence()
    blank = made_up(60, lambda rng, positive: {"slope": 1.0} if positive else {})
    assert metadata_of(blank).features == ("slope",)
    assert metadata_baseline(metadata_of(blank), **QUICK).state == "alarm"


@pytest.mark.parametrize("count", [2, 12])
def test_too_few_patients_are_not_judged(count):
    """With fewer than ten of each nothing is said, and the sentence says how many there are."""
    found = metadata_baseline(metadata_of(made_up(count, leaking)), **QUICK)
    assert found.state == "unknown"
    assert f"{count // 2} patients with and {count // 2} without any are known" in found.sentence()
    assert math.isnan(found.area.value)


def test_unknown_labels_are_left_out():
    """A series that nobody labelled is in no fold."""
    made = made_up(60, harmless)
    made.series.loc[:9, "any"] = np.nan
    metadata = metadata_of(made)
    assert len(metadata.truth) == 50
    assert not np.isnan(metadata.truth).any()


def test_a_kind_can_be_asked_for():
    """The same question of one kind of blood."""
    found = metadata_baseline(metadata_of(made_up(160, leaking), label="subdural"), **QUICK)
    assert found.label == "subdural"
    assert found.state == "alarm"


def test_the_same_seed_gives_the_same_figures():
    """Nothing depends on chance that the seed does not hold; JSON has numbers alone."""
    metadata = metadata_of(made_up(60, leaking))
    first = metadata_baseline(metadata, **QUICK).as_json()
    assert metadata_baseline(metadata, **QUICK).as_json() == first
    text = json.dumps(first, allow_nan=False)
    assert json.loads(text)["auroc"]["low"] == first["auroc"]["low"]


def test_many_slices_are_thinned_by_whole_patients():
    """Of very many slices the forest sees whole patients, as many as are enough."""
    made = made_up(40, harmless, slices=2000)
    metadata: Metadata = metadata_of(made, "slice")
    counted = np.bincount(metadata.owner)
    assert set(counted) == {2000}
    assert 50_000 < len(metadata.truth) <= 60_000

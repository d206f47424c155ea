"""The model card, and what was chosen on the calibration split, kept beside a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ichnode.nets.manifest import Manifest, Provenance
from tests.judged import AS_IT_IS, HALF, made_up
from tests.models import write_model
from train.errors import TrainingError
from train.judge.calibrating import Site
from train.judge.card import LookedAt, model_card, write_card
from train.judge.chosen import FILE, choose_all, read_chosen, write_chosen
from train.judge.evaluation import evaluate

DATA = made_up(200, seed=3)


@pytest.fixture(scope="module")
def evaluation():
    """The evaluation of made-up predictions."""
    return evaluate(DATA, AS_IT_IS, HALF, draws=50)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """A bundle's manifest."""
    return write_model(tmp_path_factory.mktemp("bundle"), logit=0.0)


def trained_on(manifest: Manifest, data: str, licence: str, restrictions: str | None) -> Manifest:
    """The same model, with other sources."""
    made = Provenance(data, licence, "1.2", "{}", "2026-01-01", restrictions)
    return dataclasses.replace(manifest, provenance=made)


def test_the_card_says_what_it_is_and_what_it_is_not_for(manifest, evaluation):
    """Identity, terms, uses that are not allowed, and the figures with intervals and counts."""
    real = trained_on(
        manifest,
        "rsna (900 patients)",
        "rsna: RSNA terms (non-commercial)",
        "non-commercial: RSNA terms (rsna)",
    )
    text = model_card(real, evaluation)
    assert real.model_uid in text
    assert "Not for clinical use without local validation" in text
    assert "RSNA terms (non-commercial)" in text
    assert "* Commercially: non-commercial: RSNA terms (rsna)." in text
    assert "leave a study unread" in text
    found = evaluation["triage"]["urgent"]["sensitivity"]
    assert f"{found['hits']} of {found['of']}" in text
    area = evaluation["labels"]["any"]["series"]["auroc"]
    assert f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})" in text
    assert "| manufacturer | GE |" in text
    assert real.calibration.how in text
    assert real.thresholds.how in text
    assert "simulated" not in text
    assert "{" not in text


def test_a_model_of_simulated_heads_says_so_first(manifest, evaluation):
    """Before anything else; and that figures of simulated heads say nothing about patients."""
    simulated = trained_on(
        manifest,
        "simulated head CT only (300 patients, 300 series, 9000 slices)",
        "Apache-2.0",
        None,
    )
    found = evaluate(made_up(60, dataset="simulated-holdout"), AS_IT_IS, HALF, draws=20)
    text = model_card(simulated, found)
    assert text.index("simulated head CT scans only") < text.index("Model UID")
    assert "nothing about patients" in text
    assert "Commercially" not in text
    mixed = model_card(trained_on(manifest, "rsna (9 patients)", "x", None), found)
    assert "figures below are of simulated scans" in mixed


@pytest.mark.parametrize(
    ("split", "told"),
    [("holdout", "neither trained"), ("all", "whoever measured"), ("train", "flatters it")],
)
def test_the_card_says_whether_the_model_knew_the_series(manifest, evaluation, split, told):
    """Held out, new by somebody's word, or its own."""
    assert told in model_card(manifest, evaluation | {"split": split})


def test_rare_labels_and_small_groups_are_limits(manifest, evaluation):
    """What was seen too seldom is said to be loose."""
    text = model_card(manifest, evaluate(made_up(60), AS_IT_IS, HALF, draws=20))
    assert "Fewer than 30 series show epidural" in text
    assert "subgroups were too small to judge" in text


def test_what_was_only_looked_at_is_no_figure(manifest, evaluation, tmp_path: Path):
    """One real scan is named as one real scan; the card is written where bundles have theirs."""
    seen = LookedAt("head_ct_ge", 28, "negative", 0.0321, 0.0654, 0.001)
    path = write_card(tmp_path, manifest, evaluation, [seen])
    assert path.name == "MODEL_CARD.md"
    text = path.read_text()
    assert "head_ct_ge" in text
    assert "0.0321" in text
    assert "One scan says nothing about rates" in text


def test_every_use_of_real_scans_is_quoted(manifest, evaluation):
    """With its intervals; what could not be known is a dash; without a use there is no section."""
    figures = {"auroc": 0.875, "sensitivity": 0.7, "specificity": None}
    known = figures | {"auroc_interval_95": [0.8, 0.94]}
    use = {"at": "2026-11-26T12:00:00+00:00", "data": "a|b", "kind": "slices", "n": 100}
    use |= {"positives": 50, "negatives": 50, "digest": "0123456789", "model_uid": "1.2"}
    use |= {"figures": known, "brain_bearing": figures | {"auroc": None}}
    text = model_card(manifest, evaluation, uses=[use])
    row = "| a/b (slices) | 01234567 | 50, 50 | 0.875 (0.800 to 0.940) | 0.700 | - | - |"
    assert f"| 2026-11-26 | one before {row}" in text
    assert "name: none." in text
    mine = use | {"kinds": {"subdural": 3}, "model_uid": manifest.model_uid, "positives": 0}
    named = model_card(manifest, evaluation, uses=[use, mine | {"negatives": 0}])
    assert "| this |" in named
    assert "| unknown (of 100) |" in named
    assert "name: subdural (3). Unproven on real scans: epidural, intraparenchymal, " in named
    assert "Measured on real" not in model_card(manifest, evaluation)


def test_a_choice_is_read_as_it_was_written(tmp_path: Path):
    """Calibration, thresholds and report, to the last digit, as strict JSON."""
    chosen = choose_all(made_up(300, boldness=2.0), "max", site=Site(prevalence=0.1))
    path = write_chosen(tmp_path, chosen)
    again = read_chosen(tmp_path)
    assert again == chosen
    assert again.calibration.series_rule == "max"
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["report"]["prevalence"] == 0.1
    assert {check["level"] for check in content["report"]["checks"]} == {"series", "slice"}
    assert "another prevalence" in chosen.thresholds.how


def test_a_missing_or_damaged_choice_says_what_to_do(tmp_path: Path):
    """Calibrate first; calibrate again."""
    with pytest.raises(TrainingError, match="train calibrate"):
        read_chosen(tmp_path)
    for broken in ("{", '{"format": 2}', '{"format": 1, "calibration": {}}', "[]"):
        (tmp_path / FILE).write_text(broken)
        with pytest.raises(TrainingError, match="damaged"):
            read_chosen(tmp_path)

"""The road of a candidate where the data refuse it: kept, told, and unblocked by who signs."""

from __future__ import annotations

import dataclasses
import fcntl
from pathlib import Path

import pytest

from tests.unit.test_retrain_steps import study, write_export
from train.errors import TrainingError
from train.retrain.pipeline import Asked, retrain
from train.retrain.policy import Policy
from train.retrain.snapshot import take_snapshot
from train.retrain.studies import read_export


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A site whose labels turned over in half of the studies since its last retraining."""
    work = tmp_path / "work"
    before = read_export(write_export(tmp_path / "before", [study(n, n % 2) for n in range(40)]))
    _, folder = take_snapshot(work, before, "2.25.1", Policy(), {})
    (folder / "gates.json").write_text("[]")
    turned = [study(n, (n + (n < 20)) % 2) for n in range(40)]
    return Asked(write_export(tmp_path / "now", turned), tmp_path / "models", work)


def test_signed_corrections_unblock_the_same_run(asked: Asked) -> None:
    """Refused, refused again, and with a signature it goes on to where cases are too few."""
    for _ in range(2):
        outcome = retrain(asked)
        assert outcome.refusal is not None
        assert outcome.refusal.gate == "D4"
    signed = retrain(dataclasses.replace(asked, corrections=20, signed_by="a physicist"))
    assert signed.refusal is not None
    assert signed.refusal.gate == "D1"
    assert signed.report == outcome.report
    assert "turned over" not in signed.report.read_text()


def test_corrections_without_a_name_change_nothing(asked: Asked) -> None:
    """A number alone is no signature."""
    outcome = retrain(dataclasses.replace(asked, corrections=20))
    assert outcome.refusal is not None
    assert outcome.refusal.gate == "D4"


def test_one_retraining_at_a_time(asked: Asked) -> None:
    """A second one in the same folder says so and touches nothing."""
    with (asked.work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="Another retraining"):
            retrain(asked)


def test_other_shares_are_refused_once_a_site_has_its_own(asked: Asked) -> None:
    """Patients of the holdout would be learnt from."""
    signed = dataclasses.replace(asked, corrections=20, signed_by="a physicist")
    retrain(signed)
    other = Policy(train_share=0.6, holdout_share=0.15)
    with pytest.raises(TrainingError, match="out of the locked holdout"):
        retrain(dataclasses.replace(signed, policy=other))

"""Steps that are done once, a ledger that cannot be rewritten, rules that are kept."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ichnode.domain.findings import LABELS
from train.errors import TrainingError
from train.retrain.checks import Counts, check_counts, check_coverage, check_flips, check_labels
from train.retrain.ledger import Ledger
from train.retrain.policy import Policy, read_policy
from train.retrain.snapshot import flipped, take_snapshot
from train.retrain.steps import Progress, Refused
from train.retrain.studies import read_export


def write_export(folder: Path, studies: list[dict[str, Any]]) -> Path:
    """Write the list of an export, without pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"format": 1, "kind": "ichnode export", "created": "2026-11-26"}
    (folder / "export.json").write_text(json.dumps(about))
    (folder / "studies.jsonl").write_text("".join(json.dumps(one) + "\n" for one in studies))
    return folder


def study(number: int, any_label: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "study": f"s{number}",
        "patient": f"p{number}",
        "arrived_week": "2026-W40",
        "labels": {"any": any_label},
        "label_source": "reader" if any_label is not None else "",
        "confirmed": any_label is not None,
        "flagged": False,
        "band": "routine",
        "reason": "",
        "series": {"key": f"k{number}", "file": f"series/k{number}.npz", "slices": 3, "facts": {}},
        "champion": None,
        **changes,
    }


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    """What it noted is remembered, by another process too."""
    calls = []

    def action() -> dict[str, Any]:
        calls.append(1)
        return {"count": 7}

    assert Progress.open(tmp_path).run("freeze", action) == {"count": 7}
    assert Progress.open(tmp_path).run("freeze", action) == {"count": 7}
    assert len(calls) == 1


def test_a_step_that_broke_is_done_again(tmp_path: Path) -> None:
    """An error is no outcome: the next try runs the step."""

    def broken() -> dict[str, Any]:
        raise OSError("the disk broke")

    progress = Progress.open(tmp_path)
    with pytest.raises(OSError, match="broke"):
        progress.run("freeze", broken)
    assert Progress.open(tmp_path).run("freeze", dict) == {}


def test_a_refusal_is_kept_and_given_again(tmp_path: Path) -> None:
    """The work behind it is not done twice."""

    def refuse() -> dict[str, Any]:
        raise Refused("D1", ["Too few."])

    with pytest.raises(Refused):
        Progress.open(tmp_path).run("split", refuse)
    with pytest.raises(Refused, match="Too few") as again:
        Progress.open(tmp_path).run("split", dict)
    assert again.value.gate == "D1"


def test_a_refusal_of_the_labels_is_looked_at_anew(tmp_path: Path) -> None:
    """Corrections that are signed afterwards unblock the same run, and it goes on."""

    def refuse() -> dict[str, Any]:
        raise Refused("D4", ["They turned over."])

    with pytest.raises(Refused):
        Progress.open(tmp_path).run("validate", refuse)
    assert Progress.open(tmp_path).run("validate", lambda: {"signed_by": "me"})
    assert Progress.open(tmp_path).refused is None
    assert Progress.open(tmp_path).run("split", dict) == {}


def test_the_ledger_counts_candidates_and_notices_a_changed_line(tmp_path: Path) -> None:
    """The same look twice is one; an altered figure breaks the chain."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for candidate in ("2.25.1", "2.25.2", "2.25.1"):
        ledger.look(
            holdout="h", candidate=candidate, champion="2.25.9", by="u", figures={"auroc": 0.98123}
        )
    assert Ledger(path).uses("h") == 2
    assert Ledger(path).uses("other") == 0
    assert Ledger(path).entries()[0]["figures"] == {"auroc": 0.98}
    path.write_text(path.read_text().replace("0.98", "0.99", 1))
    with pytest.raises(TrainingError, match="Line 1"):
        Ledger(path).entries()


def test_looks_at_nearly_the_same_patients_count_together(tmp_path: Path) -> None:
    """One patient more is no fresh holdout, nor does a candidate use up its own look."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    people = [f"p{number}" for number in range(10)]
    for number in range(3):
        ledger.look(
            holdout=f"h{number}",
            candidate=f"2.25.{number}",
            champion="c",
            by="u",
            figures={"auroc": float("nan")},
            patients=people[: 8 + number],
        )
    assert ledger.uses("h9", people) == 3
    assert ledger.uses("h9", people, besides="2.25.1") == 2
    assert ledger.uses("h9", ["q1", "q2"]) == 0
    assert ledger.uses("h2") == 1


def test_two_processes_do_not_break_the_chain(tmp_path: Path) -> None:
    """Who looks at the same time waits."""

    def look(number: int) -> None:
        Ledger(tmp_path / "ledger.jsonl").look(
            holdout="h", candidate=f"2.25.{number}", champion="c", by="u", figures={}
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(24)))
    assert Ledger(tmp_path / "ledger.jsonl").uses("h") == 24


def test_a_line_that_was_taken_out_of_the_ledger_is_noticed(tmp_path: Path) -> None:
    """The second line no longer follows the first."""
    path = tmp_path / "ledger.jsonl"
    for candidate in ("2.25.1", "2.25.2"):
        Ledger(path).look(holdout="h", candidate=candidate, champion="c", by="u", figures={})
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(TrainingError, match="altered or cut"):
        Ledger(path).entries()


def test_a_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    """It was never followed by a look; the next one takes its place."""
    path = tmp_path / "ledger.jsonl"
    Ledger(path).look(holdout="h", candidate="2.25.1", champion="c", by="u", figures={})
    with path.open("a") as file:
        file.write('{"half": ')
    Ledger(path).look(holdout="h", candidate="2.25.2", champion="c", by="u", figures={})
    assert Ledger(path).uses("h") == 2


def test_too_few_cases_are_refused_with_how_many_more_are_needed() -> None:
    """Each shortage is a sentence with its number."""
    few = Counts(50, 200)
    enough = Counts(500, 500)
    with pytest.raises(Refused) as refusal:
        check_counts(
            {"train": enough, "selection": enough, "calibration": enough, "holdout": few}, Policy()
        )
    assert refusal.value.gate == "D1"
    (sentence,) = refusal.value.sentences
    assert "10 more" in sentence
    assert "about 40 more labelled studies with haemorrhage in all" in sentence


def test_labels_on_flagged_studies_alone_are_refused(tmp_path: Path) -> None:
    """Without labels for what the model let pass, its misses are unknown."""
    studies = [study(n, 1, flagged=True) for n in range(20)] + [study(n) for n in range(20, 60)]
    export = read_export(write_export(tmp_path, studies))
    with pytest.raises(Refused, match="32 more of them") as refusal:
        check_coverage(export, Policy())
    assert refusal.value.gate == "D2"


def test_a_label_without_images_hides_a_miss_just_as_well(tmp_path: Path) -> None:
    """What the model let pass was labelled after its images were deleted: it measures nothing."""
    studies = [study(n, 1, flagged=True) for n in range(20)]
    studies += [study(n, 0, series=None) for n in range(20, 60)]
    with pytest.raises(Refused, match="have their images") as refusal:
        check_coverage(read_export(write_export(tmp_path, studies)), Policy())
    assert refusal.value.gate == "D2"


def test_consecutive_labels_pass(tmp_path: Path) -> None:
    """Flagged or not, all are labelled; a study that was not analysed does not count."""
    studies = [study(n, n % 2, flagged=n % 2 == 1) for n in range(40)]
    studies.append(study(41, reason="not a head"))
    found = check_coverage(read_export(write_export(tmp_path, studies)), Policy())
    assert found["unflagged"] == [1.0, 20, 20]


@pytest.mark.parametrize(
    "labels",
    [
        {"any": 0, "subdural": 1},
        {"any": 1, **dict.fromkeys(LABELS[1:], 0)},
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, labels: dict[str, int]) -> None:
    """A subtype without haemorrhage, or haemorrhage of no kind: one of them is wrong."""
    odd = study(1, 0) | {"labels": labels}
    export = read_export(write_export(tmp_path, [odd]))
    with pytest.raises(Refused) as refusal:
        check_labels(export.usable)
    assert refusal.value.gate == "D3"


def test_the_models_own_output_is_no_label(tmp_path: Path) -> None:
    """A label says who made it, and only people count."""
    with pytest.raises(TrainingError, match="source 'model'"):
        read_export(write_export(tmp_path, [study(1, 1, label_source="model")]))


def test_labels_that_turned_over_since_the_last_run_are_refused(tmp_path: Path) -> None:
    """Half of the labels flipped between two snapshots."""
    work = tmp_path / "work"
    first = read_export(write_export(tmp_path / "a", [study(n, n % 2) for n in range(40)]))
    _, folder = take_snapshot(work, first, "2.25.1", Policy(), {})
    (folder / "gates.json").write_text("[]")
    turned = [study(n, (n + (n < 20)) % 2) for n in range(40)]
    second = read_export(write_export(tmp_path / "b", turned))
    snapshot, other = take_snapshot(work, second, "2.25.1", Policy(), {})
    assert other != folder
    flips, compared, earlier = flipped(work, snapshot, second)
    assert (flips, compared) == (20, 40)
    assert earlier.startswith(folder.name)
    with pytest.raises(Refused) as refusal:
        check_flips(flips, compared, Policy())
    assert refusal.value.gate == "D4"
    check_flips(flips, compared, Policy(), corrections=20)


def test_the_same_start_is_the_same_run_and_another_rule_another(tmp_path: Path) -> None:
    """So that a run that was cut off goes on, and two sets of rules never mix."""
    export = read_export(write_export(tmp_path / "a", [study(n, n % 2) for n in range(4)]))
    work = tmp_path / "work"
    one = take_snapshot(work, export, "2.25.1", Policy(), {})[1]
    assert take_snapshot(work, export, "2.25.1", Policy(), {})[1] == one
    assert take_snapshot(work, export, "2.25.2", Policy(), {})[1] != one
    stricter = Policy(most_ece=0.01)
    assert take_snapshot(work, export, "2.25.1", stricter, {})[1] != one


def test_a_policy_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    """A misspelt rule is refused."""
    path = tmp_path / "policy.json"
    path.write_text('{"most_ece": 0.05}')
    assert read_policy(path) == Policy(most_ece=0.05)
    path.write_text('{"most_ecce": 0.05}')
    with pytest.raises(TrainingError, match="most_ecce"):
        read_policy(path)


@pytest.mark.parametrize(
    "changes",
    [
        '{"most_ece": "0.05"}',
        '{"least_train_series": 4.5}',
        '{"calibration_slope": [1]}',
        '{"calibration_slope": 1}',
        '{"seed": true}',
        '{"most_ece": NaN}',
        "[1]",
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, changes: str) -> None:
    """Before anything is done, and not by a traceback after hours."""
    path = tmp_path / "policy.json"
    path.write_text(changes)
    with pytest.raises(TrainingError, match=r"policy\.json"):
        read_policy(path)

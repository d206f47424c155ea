"""The registry of models: aliases, installing, promoting."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import (
    Calibration,
    Manifest,
    NetworkSpec,
    PreprocessSpec,
    Provenance,
    SelfTest,
    Thresholds,
)
from ichnode.nets.manifest_file import weights_digest, write_manifest
from ichnode.nets.registry import Registry

SIX = (1.0,) * 6


def make_bundle(folder: Path, version: str, licence: str = "Apache-2.0") -> str:
    """Write a bundle whose weights are no weights: the registry does not look into them."""
    folder.mkdir(parents=True)
    (folder / "joint.safetensors").write_bytes(version.encode())
    digest = weights_digest(folder / "joint.safetensors")
    manifest = Manifest(
        format=1,
        name="model",
        version=version,
        labels=LABELS,
        networks=(NetworkSpec("joint", "resnet18_local", LABELS, "joint.safetensors", digest),),
        preprocess=PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),)),
        calibration=Calibration(SIX, SIX, SIX, SIX, "max", ""),
        thresholds=Thresholds((0.9,) * 6, 0.5, ""),
        provenance=Provenance("simulated", licence, "0", "{}", "2026-01-01"),
        self_test=SelfTest("discs-1", (SIX,), 1.0, 1.0),
    )
    write_manifest(folder, manifest)
    (folder / "MODEL_CARD.md").write_text(f"# card of {version}\n")
    return manifest.model_uid


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    make_bundle(tmp_path / "shipped" / "first", "shipped")
    return Registry(tmp_path / "models", tmp_path / "shipped")


@pytest.fixture
def second(registry: Registry, tmp_path: Path) -> str:
    make_bundle(tmp_path / "second", "2")
    return registry.install(tmp_path / "second")


def test_an_empty_registry_runs_what_was_shipped(registry: Registry) -> None:
    """A fresh installation has a champion: the bundle of the package."""
    entry = registry.find("champion")
    assert entry.manifest.version == "shipped"
    assert registry.champion() == entry.folder
    assert [e.alias for e in registry.entries()] == ["champion"]
    assert registry.stamp is None


def test_without_any_bundle_there_is_no_champion(tmp_path: Path) -> None:
    """An installation without a model says so."""
    with pytest.raises(ModelUnusable, match="No model was shipped"):
        Registry(tmp_path / "models", tmp_path / "none").champion()


def test_installing_does_not_promote(registry: Registry, second: str) -> None:
    """A new bundle is there and does not run."""
    assert registry.find("champion").manifest.version == "shipped"
    assert {entry.model_uid for entry in registry.entries()} >= {second}
    assert registry.find(second).card() == "# card of 2\n"


def test_installing_twice_changes_nothing(registry: Registry, second: str, tmp_path: Path) -> None:
    """The folder is named by its content, so the same bundle is the same folder."""
    before = sorted((tmp_path / "models").rglob("*"))
    assert registry.install(tmp_path / "second") == second
    assert sorted((tmp_path / "models").rglob("*")) == before


def test_promoting_moves_both_aliases(registry: Registry, second: str) -> None:
    """The one that ran becomes previous, the shipped one too, and can be promoted back."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    assert registry.find("champion").model_uid == second
    assert registry.find("previous").model_uid == shipped
    assert [e.alias for e in registry.entries()] == ["champion", "previous"]
    registry.promote(shipped)
    assert registry.find("champion").model_uid == shipped
    assert registry.find("previous").model_uid == second


def test_promoting_the_champion_keeps_the_previous(registry: Registry, second: str) -> None:
    """A promotion that was given twice does not lose the way back."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    registry.promote(second)
    assert registry.find("previous").model_uid == shipped


def test_a_challenger_that_is_promoted_is_none_any_more(registry: Registry, second: str) -> None:
    """Alias by alias, each model has one role."""
    registry.challenge(second)
    assert registry.find("challenger").model_uid == second
    registry.promote(second)
    with pytest.raises(ModelUnusable):
        registry.find("challenger")


def test_the_stamp_changes_with_every_promotion(registry: Registry, second: str) -> None:
    """A worker sees a promotion by one stat, whatever the clock's resolution."""
    shipped = registry.find("champion").model_uid
    stamps = []
    for uid in (second, shipped, second):
        registry.promote(uid)
        stamps.append(registry.stamp)
    assert stamps[0] != stamps[1] != stamps[2]


def test_a_damaged_bundle_is_neither_installed_nor_promoted(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """The champion stays as it was."""
    (tmp_path / "second" / "joint.safetensors").write_bytes(b"x")
    with pytest.raises(ModelUnusable):
        registry.install(tmp_path / "second")
    (tmp_path / "models" / second / "joint.safetensors").write_bytes(b"x")
    with pytest.raises(ModelUnusable):
        registry.promote(second)
    assert registry.find("champion").manifest.version == "shipped"


def test_a_champion_that_is_gone_is_no_reason_to_run_another(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """No model takes another's place by itself."""
    registry.promote(second)
    (tmp_path / "models" / second / "bundle.json").unlink()
    with pytest.raises(ModelUnusable):
        registry.champion()


@pytest.mark.parametrize("which", ["nothing", "../../etc", "2.25.1", ""])
def test_what_is_not_there_is_not_found(registry: Registry, which: str) -> None:
    """Neither a wrong alias, nor a path, nor an unknown UID is a model."""
    with pytest.raises(ModelUnusable, match="has no model"):
        registry.find(which)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"champion": "../x"}',
        '{"best": "2.25.1"}',
        '{"champion": 3}',
        '{"champion": "2.25.1", "since": {"champion": {"at": "yesterday"}}}',
        '{"champion": "2.25.1", "since": []}',
    ],
)
def test_damaged_aliases_are_refused(registry: Registry, tmp_path: Path, content: str) -> None:
    """A file that says nothing sensible is not taken for an empty registry."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "aliases.json").write_text(content)
    with pytest.raises(ModelUnusable, match=r"aliases\.json"):
        registry.champion()


def test_a_folder_that_holds_another_model_is_refused(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """The name of the folder is the UID of what is in it."""
    registry.promote(second)
    make_bundle(tmp_path / "third", "3")
    text = (tmp_path / "third" / "bundle.json").read_text()
    (tmp_path / "models" / second / "bundle.json").write_text(text)
    with pytest.raises(ModelUnusable, match="another model"):
        registry.champion()


def test_readers_never_see_half_a_promotion(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """While models change places, every look finds a whole file with a champion."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    done = threading.Event()
    seen: set[str] = set()
    wrong: list[str] = []

    def look() -> None:
        while not done.is_set():
            content = json.loads((tmp_path / "models" / "aliases.json").read_text())
            seen.add(content["champion"])
            if content["champion"] == content["previous"]:
                wrong.append(content["champion"])

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(20):
        registry.promote(shipped if turn % 2 else second)
    done.set()
    reader.join()
    assert seen <= {shipped, second}
    assert not wrong


def test_promotions_at_the_same_time_leave_a_sound_registry(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """Two people who promote at once get one champion and one previous, both whole."""
    shipped = registry.find("champion").model_uid
    make_bundle(tmp_path / "third", "3")
    third = registry.install(tmp_path / "third")
    people = [threading.Thread(target=registry.promote, args=(uid,)) for uid in (second, third)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    champion, previous = (registry.find(a).model_uid for a in ("champion", "previous"))
    assert {champion, previous} <= {shipped, second, third}
    assert champion != previous


def test_a_summary_is_of_what_the_manifest_says(registry: Registry) -> None:
    """The list shows alias, name, version, UID and what the model learned from."""
    entry = registry.find("champion")
    entry.verify()
    assert entry.summary() == {
        "alias": "champion",
        "name": "model",
        "version": "shipped",
        "model_uid": entry.model_uid,
        "data": "simulated",
        "licence": "Apache-2.0",
        "terms": "",
    }
    other = dataclasses.replace(entry.manifest, version="x")
    assert other.model_uid != entry.model_uid


# ------------------------------------------------------------------ who, when and why


def test_an_alias_says_who_gave_it_when_and_why(registry: Registry, second: str) -> None:
    """The record is in the same file as the alias, so that neither is there without the other."""
    before = datetime.now(UTC)
    registry.challenge(second, by="ichnode retrain", reason="every gate passed")
    challenger = registry.challenger()
    assert challenger is not None
    assert challenger.since is not None
    assert challenger.since.at >= before
    registry.promote(second, by="A. Physicist", reason="shadow of 212 studies")
    since = registry.find("champion").since
    assert since is not None
    assert (since.by, since.reason) == ("A. Physicist", "shadow of 212 studies")
    assert registry.challenger() is None


def test_challenging_twice_keeps_the_first_moment(registry: Registry, second: str) -> None:
    """The shadow is counted from when the model became challenger, not from the last mention."""
    registry.challenge(second)
    first = registry.find("challenger").since
    registry.challenge(second, by="again")
    assert registry.find("challenger").since == first


def test_the_champion_cannot_challenge_itself(registry: Registry, second: str) -> None:
    """Neither the promoted one nor, in an empty registry, the shipped one."""
    with pytest.raises(ModelUnusable, match="champion already"):
        registry.challenge(registry.find("champion").model_uid)
    registry.promote(second)
    with pytest.raises(ModelUnusable, match="champion already"):
        registry.challenge(second)


def test_aliases_without_a_record_are_read(registry: Registry, second: str, tmp_path: Path) -> None:
    """A registry of an earlier version says who is champion, and not since when."""
    content = json.dumps({"champion": second})
    (tmp_path / "models" / "aliases.json").write_text(content)
    assert registry.find("champion").model_uid == second
    assert registry.find("champion").since is None


# ------------------------------------------------------------------ rolling back


def test_a_rollback_brings_back_the_previous_model(registry: Registry, second: str) -> None:
    """With who and why; what was taken out stays installed and is nobody's previous."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    assert registry.rollback(by="Dr B", reason="alarms doubled").model_uid == shipped
    champion = registry.find("champion")
    assert champion.model_uid == shipped
    assert champion.since is not None
    assert (champion.since.by, champion.since.reason) == ("Dr B", "alarms doubled")
    assert registry.find(second).alias == ""


def test_a_second_rollback_does_not_bring_the_bad_model_back(
    registry: Registry, second: str
) -> None:
    """Two people who pull the brake at once get one rollback and one sentence."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    registry.rollback(by="one", reason="x")
    with pytest.raises(ModelUnusable, match="no previous model"):
        registry.rollback(by="two", reason="x")
    assert registry.find("champion").model_uid == shipped


def test_a_damaged_previous_model_is_not_gone_back_to(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """The champion stays: a bad model that runs is better than none."""
    make_bundle(tmp_path / "third", "3")
    third = registry.install(tmp_path / "third")
    registry.promote(second)
    registry.promote(third)
    (tmp_path / "models" / second / "joint.safetensors").write_bytes(b"x")
    with pytest.raises(ModelUnusable):
        registry.rollback(by="Dr B", reason="x")
    assert registry.find("champion").model_uid == third


FLIPPING = """
import sys
from pathlib import Path
from ichnode.nets.registry import Registry
registry = Registry(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
while True:
    registry.promote(sys.argv[3], by="x", reason="y" * 200)
    registry.rollback(by="x", reason="z" * 200)
    registry.challenge(sys.argv[3])
"""


def test_a_killed_promotion_or_rollback_leaves_a_whole_champion(
    registry: Registry, second: str, tmp_path: Path
) -> None:
    """Killed in the middle, many times: there is a champion, whole, with its reason."""
    shipped = registry.find("champion").model_uid
    registry.promote(second)
    registry.rollback(by="x", reason="y")
    arguments = [str(tmp_path / "models"), str(tmp_path / "shipped"), second]
    seen = set()
    for turn in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", FLIPPING, *arguments], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        threading.Event().wait(0.002 * turn)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        champion = registry.find("champion")
        champion.verify()
        assert champion.since is not None
        seen.add(champion.model_uid)
    assert seen <= {shipped, second}
    registry.promote(second)
    assert registry.find("champion").model_uid == second


# ------------------------------------------------------------------ what lies beside a bundle


def test_gates_and_report_come_along_with_a_candidate(registry: Registry, tmp_path: Path) -> None:
    """They are beside the bundle and no part of its UID; a bundle without them says None."""
    make_bundle(tmp_path / "candidate", "4")
    gates = {"passed": True, "gates": []}
    (tmp_path / "candidate" / "gates.json").write_text(json.dumps(gates))
    (tmp_path / "candidate" / "retrain-report.html").write_text("<p>report</p>")
    entry = registry.find(registry.install(tmp_path / "candidate"))
    assert entry.gates() == gates
    assert (entry.folder / "retrain-report.html").is_file()
    assert registry.find("champion").gates() is None
    (entry.folder / "gates.json").write_text("[]")
    with pytest.raises(ModelUnusable, match="gates"):
        entry.gates()


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("rsna: RSNA terms (non-commercial)", "non-commercial"),
        ("cq500: CC BY-NC-SA 4.0", "non-commercial"),
        ("site: own data; Apache-2.0", ""),
        ("the ANCHOR licence", ""),
    ],
)
def test_a_non_commercial_source_is_seen_in_the_list(
    registry: Registry, tmp_path: Path, licence: str, terms: str
) -> None:
    """Whoever lists the models sees under which terms they may be used."""
    make_bundle(tmp_path / "bundle", "5", licence)
    assert registry.find(registry.install(tmp_path / "bundle")).summary()["terms"] == terms

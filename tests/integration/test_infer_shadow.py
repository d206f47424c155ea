"""The challenger in the shadow: it reads as the champion does, and harms nobody."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ichnode.domain.errors import Transient
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis
from ichnode.domain.reasons import Reason
from ichnode.domain.series import InstanceRef
from ichnode.domain.work import (
    Declined,
    Failed,
    Interrupted,
    Lease,
    Shadowed,
    ShadowWork,
)
from ichnode.imaging.header import read_header
from ichnode.infer.shadow import ShadowStage
from ichnode.infer.stage import InferStage
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import StudyFiles, write_study
from ichnode.service.shadowing import FollowedChallenger, shadow_loop
from ichnode.settings import InferSettings, NodeSettings, Settings
from ichnode.worklist.worklist import Worklist
from tests.models import write_model
from tests.site_kit import arrival_of
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock

LEASE = Lease(1, "token", 1, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def study(spool: Path) -> StudyFiles:
    return write_study(
        spool / "study", 900_003, bleeds=(), extras=("localizer",), slices=24, size_px=64
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A champion that finds nothing, and a challenger that finds blood everywhere."""
    registry = Registry(tmp_path / "models")
    for version, logit in (("champion", -3.0), ("challenger", 6.0)):
        write_model(tmp_path / version, logit=logit, version=version)
        uid = registry.install(tmp_path / version)
        registry.promote(uid) if version == "champion" else registry.challenge(uid)
    return tmp_path / "models"


def work_on(spool: Path, files: list[Path], model_uid: str) -> ShadowWork:
    instances = tuple(
        InstanceRef(
            "0" * 64, path.relative_to(spool).as_posix(), "1.2.840.10008.1.2.1", read_header(path)
        )
        for path in files
    )
    return ShadowWork(LEASE, "1.2.3", "1.2.3.9", model_uid, instances)


def stage_on(models: Path, spool: Path, busy=lambda: False) -> ShadowStage:
    return ShadowStage(models, spool, device="cpu", busy=busy)


def test_the_challenger_reads_what_the_champion_reads(
    models: Path, spool: Path, study: StudyFiles
) -> None:
    """With its own weights and thresholds; what is not to be analysed is declined likewise."""
    stage = stage_on(models, spool)
    uid = Registry(models).find("challenger").model_uid
    said = stage.handle(work_on(spool, study.series["head"], uid))
    assert isinstance(said, Shadowed)
    assert said.finding is Finding.POSITIVE
    assert len(said.probabilities) == 6
    assert said.probabilities[0] > 0.9
    assert said.seconds > 0
    declined = stage.handle(work_on(spool, study.series["localizer"], uid))
    assert isinstance(declined, Declined)
    assert declined.reason is Reason.LOCALIZER


def test_a_head_with_holes_is_for_review_in_the_shadow_too(
    models: Path, spool: Path, study: StudyFiles
) -> None:
    """Otherwise the two would be measured by different rules."""
    files = study.series["head"]
    uid = Registry(models).find("champion").model_uid
    said = stage_on(models, spool).handle(work_on(spool, files[:8] + files[12:], uid))
    assert isinstance(said, Shadowed)
    assert said.finding is Finding.REVIEW


def test_it_gives_way_between_two_batches(models: Path, spool: Path, study: StudyFiles) -> None:
    """Live work that comes in the middle waits for eight slices at most."""
    asked = []

    def busy() -> bool:
        asked.append(len(asked))
        return len(asked) > 2

    uid = Registry(models).find("challenger").model_uid
    outcome = stage_on(models, spool, busy).handle(work_on(spool, study.series["head"], uid))
    assert isinstance(outcome, Interrupted)
    assert len(asked) == 3, "before the first slice, before the first batch, before the second"


@pytest.mark.parametrize("damage", ["weights", "self-test"])
def test_an_unusable_challenger_is_a_failure_and_no_more(
    models: Path, spool: Path, study: StudyFiles, tmp_path: Path, damage: str
) -> None:
    """Damaged, or other numbers than it was exported with: the champion goes on."""
    registry = Registry(models)
    if damage == "weights":
        uid = registry.find("challenger").model_uid
        (models / uid / "joint.safetensors").write_bytes(b"x")
    else:
        write_model(tmp_path / "off", logit=1.0, off=5.0)
        uid = registry.install(tmp_path / "off")
    stage = stage_on(models, spool)
    outcome = stage.handle(work_on(spool, study.series["head"], uid))
    assert isinstance(outcome, Failed)
    assert not outcome.transient
    assert stage.unusable == uid
    InferStage(models, spool, device="cpu")


def test_files_that_cannot_be_read_are_tried_again(
    models: Path, spool: Path, study: StudyFiles
) -> None:
    """A file server that is away is nobody's fault."""
    work = work_on(spool, study.series["head"], Registry(models).find("challenger").model_uid)
    folder = spool / "folder.dcm"
    folder.mkdir(exist_ok=True)
    wrong = [
        InstanceRef(ref.sha256, "folder.dcm", ref.transfer_syntax_uid, ref.header)
        for ref in work.instances
    ]
    with pytest.raises(Transient):
        stage_on(models, spool).handle(
            ShadowWork(LEASE, "1.2.3", "1.2.3.9", work.model_uid, tuple(wrong))
        )


def test_the_challenger_of_the_moment_is_followed(models: Path, tmp_path: Path) -> None:
    """None, then one with the moment it was named, then none after its promotion."""
    registry = Registry(models)
    follow = FollowedChallenger(registry)
    first = follow()
    entry = registry.find("challenger")
    assert entry.since is not None
    assert first is not None
    assert (first.model_uid, first.since) == (entry.model_uid, entry.since.at)
    assert follow() is first
    registry.promote(entry.model_uid)
    assert follow() is None


# ------------------------------------------------------------------ on the worklist


def settings_of(models: Path, spool: Path) -> Settings:
    return Settings(
        node=NodeSettings(host_id="test", spool=spool),
        infer=InferSettings(models=models, device="cpu", threads=1),
    )


def scanned(worklist: Worklist, clock: HandClock, study: StudyFiles, spool: Path) -> str:
    """Receive a head and let the champion read it."""
    worklist.record([arrival_of(path, spool, clock.now()) for path in study.series["head"]])
    clock.forward(60)
    return study.identity.study_uid


def test_the_list_does_not_know_of_the_shadow(
    open_worklist: OpenWorklist,
    hand_clock: HandClock,
    models: Path,
    spool: Path,
    study: StudyFiles,
) -> None:
    """The champion's negative stands and nothing is sent; the disagreement is there for people."""
    hand_clock.moment = datetime.now(UTC)
    worklist = open_worklist()
    settings = settings_of(models, spool)
    uid = scanned(worklist, hand_clock, study, spool)
    stop = threading.Event()
    shadow = shadow_loop(settings, worklist, "shadow@test:1", stop)
    assert not shadow.step(), "the live series goes first"
    work = worklist.analyses.claim("infer")
    assert work is not None
    champion = InferStage(models, spool, device="cpu")
    assert worklist.analyses.settle(work, champion.handle(work))
    before = worklist.views.study(uid)
    assert before is not None
    assert before.series[0].analysis is Analysis.NEGATIVE
    assert shadow.step()
    assert not shadow.step()
    assert worklist.views.study(uid) == before
    assert worklist.deliveries.claim("send") is None
    figures = worklist.shadow().figures(Registry(models).find("challenger").model_uid)
    assert (figures.studies, figures.failed) == (1, 0)
    assert [one.study_uid for one in figures.disagreements] == [uid]


def test_an_unusable_challenger_fails_once_and_not_for_every_study(
    open_worklist: OpenWorklist,
    hand_clock: HandClock,
    models: Path,
    spool: Path,
    study: StudyFiles,
) -> None:
    """The failure is recorded, so that nobody promotes it; then it is left alone."""
    hand_clock.moment = datetime.now(UTC)
    worklist = open_worklist()
    challenger = Registry(models).find("challenger").model_uid
    scanned(worklist, hand_clock, study, spool)
    work = worklist.analyses.claim("infer")
    assert work is not None
    worklist.analyses.settle(work, InferStage(models, spool, device="cpu").handle(work))
    (models / challenger / "joint.safetensors").write_bytes(b"x")
    shadow = shadow_loop(settings_of(models, spool), worklist, "shadow@test:1", threading.Event())
    assert shadow.step()
    assert not shadow.step()
    assert worklist.shadow().figures(challenger).failed == 1

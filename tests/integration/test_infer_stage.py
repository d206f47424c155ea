"""The infer stage on files: results, refusals, re-use and the change of models."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.domain.reasons import Reason
from ichnode.domain.work import Analysed, Declined, NotYet, Phase
from ichnode.imaging.header import read_header
from ichnode.imaging.masks import unpack, unpack_heat
from ichnode.infer.stage import InferStage
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import StudyFiles, write_study
from tests.infer_kit import install, work_on
from tests.models import write_drawing, write_model


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def study(spool: Path) -> StudyFiles:
    return write_study(
        spool / "study",
        900_002,
        bleeds=["intraparenchymal"],
        extras=("localizer",),
        slices=24,
        size_px=128,
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    install(tmp_path / "models", tmp_path / "first", logit=-3.0)
    return tmp_path / "models"


def analysed(outcome: object) -> Analysed:
    assert isinstance(outcome, Analysed)
    return outcome


def test_a_series_is_analysed_whole(spool: Path, study: StudyFiles, models: Path) -> None:
    """The result names model, device, time, operating point, and every slice from the feet up."""
    stage = InferStage(models, spool, device="cpu")
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert result.finding is Finding.NEGATIVE
    assert result.model_uid == stage.model_uid == Registry(models).find("champion").model_uid
    assert (result.model_name, result.model_version) == ("untrained", "1")
    assert tuple(label.label for label in result.labels) == LABELS
    sop_uids = [read_header(path).sop_uid for path in study.series["head"]]
    assert [uid for uid, _ in result.slice_probabilities] == sop_uids
    best = max(result.slice_probabilities, key=lambda pair: pair[1][0])
    assert result.of("any").key_sop_uid == best[0]
    assert dict(result.operating_point)["review"] == 0.6
    assert len(result.operating_point) == 7
    assert result.seconds > 0
    assert result.device.startswith("cpu")
    assert result.series_score > 0


def drawing_models(tmp_path: Path, **more: Any) -> Path:
    """A registry whose champion draws masks."""
    write_drawing(tmp_path / "drawing", **more)
    registry = Registry(tmp_path / "models")
    registry.promote(registry.install(tmp_path / "drawing"))
    return tmp_path / "models"


def test_a_positive_has_a_volume_and_what_was_drawn(
    spool: Path, study: StudyFiles, tmp_path: Path
) -> None:
    """To one decimal, of the labels that are shown, with the method; and a mask of the key slice
    in its own pixels.
    """
    models = drawing_models(tmp_path, logit=4.0, mask_logit=3.0, shown=("any", "subdural"))
    stage = InferStage(models, spool, device="cpu", threads=1)
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    volumes = {one.label: one.volume_ml for one in result.labels}
    assert result.finding is Finding.POSITIVE
    assert volumes["any"] is not None
    assert 5 < volumes["any"] == round(volumes["any"], 1) < 100
    assert volumes["subdural"] == volumes["any"]
    assert volumes["epidural"] is None
    assert result.volume_how.startswith("Made up")
    assert result.key_mask is not None
    assert result.key_mask.slice_uid == result.of("any").key_sop_uid
    drawn = unpack(result.key_mask)
    assert drawn.shape == (128, 128)
    assert 0.3 < drawn.mean() < 1  # the box around the head, and nothing beyond


@pytest.mark.parametrize(("logit", "there"), [(4.0, True), (1.0, False), (-4.0, False)])
def test_a_positive_keeps_where_blood_is_suspected(
    spool: Path, study: StudyFiles, tmp_path: Path, logit: float, there: bool
) -> None:
    """On the key slice, whatever the model draws; other findings keep nothing."""
    install(tmp_path / "models", tmp_path / "one", logit=logit)
    stage = InferStage(tmp_path / "models", spool, device="cpu", threads=1)
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert (result.finding is Finding.POSITIVE) == there
    assert (result.key_heat is not None) == there
    if result.key_heat is not None:
        held = result.key_heat
        assert held.slice_uid == result.of("any").key_sop_uid
        assert (held.rows, held.columns) == (128, 128)
        assert len(held.packed) < 6000
        assert unpack_heat(held).chances.max() > 150


@pytest.mark.parametrize(
    "changes",
    [{"shown": ()}, {"logit": -4.0}, {"mask_logit": -9.0}],
    ids=["not good enough", "no positive", "nothing drawn"],
)
def test_no_volume_is_stated_without_ground(
    spool: Path, study: StudyFiles, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Nor of a positive that no mask covers: a bleed of 0 ml would be read as none."""
    models = drawing_models(tmp_path, **({"logit": 4.0, "mask_logit": 3.0} | changes))
    stage = InferStage(models, spool, device="cpu", threads=1)
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert (result.finding is Finding.POSITIVE) == (changes.get("logit") is None)
    assert {one.volume_ml for one in result.labels} == {None}
    assert result.key_mask is None
    assert result.volume_how == ""


def test_a_volume_without_an_edge_has_no_outline(
    spool: Path, study: StudyFiles, tmp_path: Path
) -> None:
    """Blood that is faint everywhere adds up, and reaches the contour nowhere."""
    models = drawing_models(tmp_path, logit=4.0, mask_logit=-1.0)
    stage = InferStage(models, spool, device="cpu", threads=1)
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert result.of("any").volume_ml is not None
    assert result.key_mask is None


def test_the_order_of_arrival_changes_nothing(spool: Path, study: StudyFiles, models: Path) -> None:
    """Slices that came in any order give the same result."""
    stage = InferStage(models, spool, device="cpu")
    files = study.series["head"]
    mixed = [*files[::2], *reversed(files[1::2])]
    one, other = (
        dataclasses.replace(analysed(stage.handle(work_on(spool, f))).result, seconds=0.0)
        for f in (files, mixed)
    )
    assert one == other


def test_an_earlier_result_of_the_same_model_is_kept(
    spool: Path, study: StudyFiles, models: Path
) -> None:
    """The same set under the same model is not analysed again; its files are not even opened."""
    stage = InferStage(models, spool, device="cpu")
    work = work_on(spool, study.series["head"], Phase.PLAUSIBLE)
    first = analysed(stage.handle(work)).result
    count = len(work.instances)
    final = dataclasses.replace(work, phase=Phase.FINAL, earlier=first, earlier_count=count)
    gone = tuple(dataclasses.replace(i, path="gone.dcm") for i in final.instances)
    assert analysed(stage.handle(dataclasses.replace(final, instances=gone))).result is first


def test_an_earlier_result_of_another_model_is_not(
    spool: Path, study: StudyFiles, models: Path
) -> None:
    """A new model looks for itself."""
    stage = InferStage(models, spool, device="cpu")
    work = work_on(spool, study.series["head"])
    other = dataclasses.replace(analysed(stage.handle(work)).result, model_uid="2.25.9")
    count = len(work.instances)
    outcome = stage.handle(dataclasses.replace(work, earlier=other, earlier_count=count))
    assert analysed(outcome).result.model_uid == stage.model_uid
    assert not analysed(outcome).kept


def variants(spool: Path, files: Sequence[Path], name: str, tags: dict[str, object]) -> list[Path]:
    """Other bytes under the same SOP Instance UIDs."""
    made = []
    for path in files:
        dataset = dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        made.append(spool / f"{name}_{path.name}")
        dataset.save_as(made[-1])
    return made


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"AccessionNumber": "42", "InstitutionName": "SIMULATED"}, None),
        ({"RescaleIntercept": "-1000"}, Reason.CONFLICTING_PIXELS),
        ({"PatientID": "SOMEBODY-ELSE"}, Reason.IDENTITY),
    ],
)
def test_variants_of_what_was_read_are_compared_and_not_read_again(
    spool: Path,
    study: StudyFiles,
    models: Path,
    tags: dict[str, object],
    reason: Reason | None,
) -> None:
    """The same pictures keep the earlier result; others, or another patient's, refuse the set."""
    stage = InferStage(models, spool, device="cpu")
    files = study.series["head"]
    first = analysed(stage.handle(work_on(spool, files))).result
    further = variants(spool, files[3:6], f"{reason}", tags)
    work = dataclasses.replace(
        work_on(spool, [*files, *further]), earlier=first, earlier_count=len(files)
    )
    outcome = stage.handle(work)
    if reason is None:
        assert analysed(outcome).kept
        assert analysed(outcome).result is first
    else:
        assert isinstance(outcome, Declined)
        assert outcome.reason is reason


@pytest.mark.parametrize("damage", ["gaps", "unreadable", "without a place"])
def test_a_negative_of_a_head_with_holes_is_for_review(
    spool: Path, study: StudyFiles, models: Path, damage: str
) -> None:
    """Where a part of the head was not seen nothing is ruled out, and the warning says so."""
    stage = InferStage(models, spool, device="cpu")
    files = study.series["head"]
    if damage == "gaps":
        seen = files[:8] + files[12:]
    elif damage == "without a place":
        seen = [*files[:-1], displaced(files[-1], spool / "displaced.dcm")]
    else:
        torn = spool / "torn.dcm"
        torn.write_bytes(files[10].read_bytes()[:-1000])
        seen = [*files[:10], torn, *files[11:]]
    result = analysed(stage.handle(work_on(spool, seen))).result
    assert result.finding is Finding.REVIEW
    assert {label.presence for label in result.labels} == {Presence.UNDETERMINED}
    assert "nothing is ruled out" in result.warnings[-1]


def displaced(path: Path, copy: Path) -> Path:
    """Write a copy of a slice that says nothing of where it lies."""
    ds = dcmread(path)
    del ds.ImagePositionPatient
    ds.save_as(copy)
    return copy


def test_a_localizer_is_declined(spool: Path, study: StudyFiles, models: Path) -> None:
    """What is not ours is declined with its reason."""
    stage = InferStage(models, spool, device="cpu")
    outcome = stage.handle(work_on(spool, study.series["localizer"]))
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.LOCALIZER


def test_too_few_slices_may_still_become_enough(
    spool: Path, study: StudyFiles, models: Path
) -> None:
    """While a series may still grow the answer is "not yet"; when it is final it is declined."""
    stage = InferStage(models, spool, device="cpu")
    files = study.series["head"][:4]
    assert isinstance(stage.handle(work_on(spool, files, Phase.PLAUSIBLE)), NotYet)
    final = stage.handle(work_on(spool, files, Phase.FINAL))
    assert isinstance(final, Declined)
    assert final.reason is Reason.TOO_FEW_SLICES


def test_a_new_champion_takes_over_between_studies(
    spool: Path, study: StudyFiles, models: Path, tmp_path: Path
) -> None:
    """After a promotion the next study is read by the new model, without a restart, and back."""
    stage = InferStage(models, spool, device="cpu")
    work = work_on(spool, study.series["head"])
    before = analysed(stage.handle(work)).result
    second = install(models, tmp_path / "second", logit=4.0, version="2")
    after = analysed(stage.handle(work)).result
    assert (before.finding, after.finding) == (Finding.NEGATIVE, Finding.POSITIVE)
    assert after.model_uid == second
    Registry(models).promote(before.model_uid)
    assert analysed(stage.handle(work)).result.model_uid == before.model_uid


def test_a_champion_that_is_damaged_is_refused_and_the_old_one_reads_on(
    spool: Path, study: StudyFiles, models: Path, tmp_path: Path
) -> None:
    """A promotion that went wrong stops no reading; it is logged as an error."""
    stage = InferStage(models, spool, device="cpu")
    second = install(models, tmp_path / "second", logit=4.0, version="2")
    (models / second / "joint.safetensors").write_bytes(b"")
    with capture_logs() as lines:
        result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert result.model_version == "1"
    assert [line["log_level"] for line in lines if line["event"] == "model.refused"] == ["error"]


def test_no_usable_model_at_the_start_is_fatal(spool: Path, models: Path, tmp_path: Path) -> None:
    """A node without a sound model does not pretend to read."""
    write_model(tmp_path / "bad", logit=0.0, off=1.0)
    registry = Registry(models)
    registry.promote(registry.install(tmp_path / "bad"))
    with pytest.raises(ModelUnusable, match="self-test"):
        InferStage(models, spool, device="cpu")


def test_results_name_no_patient(spool: Path, study: StudyFiles, models: Path) -> None:
    """Neither the logs nor the result carry a name, an identifier or a description."""
    stage = InferStage(models, spool, device="cpu")
    with capture_logs() as lines:
        outcome = stage.handle(work_on(spool, study.series["head"]))
    text = json.dumps(lines, default=str) + repr(outcome)
    header = read_header(study.series["head"][0])
    for secret in (header.patient_name, header.patient_id, header.accession_number):
        assert secret
        assert secret not in text


def test_a_file_outside_of_the_spool_is_never_read(
    spool: Path, study: StudyFiles, models: Path
) -> None:
    """A path that leads out of the spool is refused before anything is opened."""
    stage = InferStage(models, spool, device="cpu")
    work = work_on(spool, study.series["head"])
    out = tuple(dataclasses.replace(i, path=f"../{i.path}") for i in work.instances)
    with pytest.raises(ValueError, match="inside the spool"):
        stage.handle(dataclasses.replace(work, instances=out))


def test_the_shipped_model_runs_where_nothing_is_installed(
    spool: Path, study: StudyFiles, tmp_path: Path
) -> None:
    """A fresh installation reads with the bundle of the package and finds a plain bleed."""
    stage = InferStage(tmp_path / "none", spool, device="cpu")
    result = analysed(stage.handle(work_on(spool, study.series["head"]))).result
    assert result.finding is Finding.POSITIVE
    assert not (tmp_path / "none").exists()
    shutil.rmtree(tmp_path / "none", ignore_errors=True)


@pytest.mark.real
def test_a_real_scan_without_blood_is_not_called_positive(real_data: Path, tmp_path: Path) -> None:
    """The shipped model does not raise an alarm on a real head CT in which no blood was seen."""
    shutil.copytree(real_data / "head_ct_ge", tmp_path / "spool" / "ge")
    files = sorted((tmp_path / "spool" / "ge").glob("*.dcm"))
    stage = InferStage(tmp_path / "models", tmp_path / "spool", device="cpu")
    result = analysed(stage.handle(work_on(tmp_path / "spool", files))).result
    assert result.finding is not Finding.POSITIVE
    assert len(result.slice_probabilities) == len(files)

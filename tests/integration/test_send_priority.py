"""Reading priority by UPS, over real associations to a UPS SCP."""

from __future__ import annotations

import pytest

from ichnode.domain.ids import result_uid
from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, SendSettings
from tests.documents import CT_IMAGE, priority_work, study_ref
from tests.pacs import UPS_PULL, UPS_PUSH, UPS_QUERY, UPS_WATCH, UpsScp, task

STUDY = study_ref()
OTHER = result_uid("test study", "of somebody else")
OURS = result_uid("ups", STUDY.study_uid, "1")
LATER = result_uid("ups", STUDY.study_uid, "2")


def raise_priority(scp, tmp_path, *, study=STUDY, create_if_missing=False, revision=1):
    """Run one priority delivery and return its result."""
    destination = DestinationSettings(
        name="pacs",
        ae_title="UPSSCP",
        host="127.0.0.1",
        port=scp.port,
        ups=True,
        create_if_missing=create_if_missing,
        timeout_s=5.0,
    )
    stage = SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE")
    return stage.handle(priority_work(study, revision=revision)).results[1]


def test_the_scheduled_task_of_the_study_is_set_to_high(tmp_path):
    """The study's reading task becomes HIGH, and nobody else's."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), task("1.2", study_uid=OTHER)) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "HIGH", "1.2": "MEDIUM"}
        assert scp.calls == ["find", "set"]


def test_doing_it_again_changes_nothing(tmp_path):
    """A task that is HIGH already is a success without another N-SET."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid, priority="HIGH")) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(note="it was HIGH already")
        assert scp.calls == ["find"]


def test_a_task_that_was_taken_up_is_never_touched(tmp_path):
    """A study that is being read needs no priority; nothing is created either."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid, state="IN PROGRESS")) as scp:
        answer = raise_priority(scp, tmp_path, create_if_missing=True)
        assert answer == Acknowledged(note="the study is being read")
        assert scp.priorities() == {"1.1": "MEDIUM"}
        assert set(scp.calls) == {"find"}


@pytest.mark.parametrize("changed", ["20260304100000+0000", "20260304110001.5+0100", ""])
def test_a_task_that_was_completed_with_the_images_there_was_read(tmp_path, changed):
    """Nothing more is owed, and no other is created; who does not say when is believed."""
    over = task("1.1", study_uid=STUDY.study_uid, state="COMPLETED", changed=changed)
    with UpsScp(over) as scp:
        answer = raise_priority(scp, tmp_path, create_if_missing=True)
        assert answer == Acknowledged(note="the study was read after its images had come")
        assert scp.priorities() == {"1.1": "MEDIUM"}


@pytest.mark.parametrize(
    ("state", "changed"),
    [
        ("COMPLETED", "20260304095959+0000"),
        ("COMPLETED", "20260304100100+0100"),
        ("CANCELED", "20260304120000+0000"),
        ("CANCELED", ""),
    ],
)
def test_a_task_that_is_over_is_of_nobody_who_would_look(tmp_path, state, changed):
    """Another is created beside it where that is wanted, and otherwise nothing counts as told."""
    over = task("1.1", study_uid=STUDY.study_uid, state=state, changed=changed)
    with UpsScp(over) as scp:
        answer = raise_priority(scp, tmp_path)
        assert answer == Undelivered("The study's reading task is over: none was raised.")
        assert scp.priorities() == {"1.1": "MEDIUM"}
        assert raise_priority(scp, tmp_path, create_if_missing=True) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "MEDIUM", OURS: "HIGH"}
        assert scp.tasks["1.1"].ProcedureStepState == state


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELED"])
def test_new_blood_after_our_own_task_is_over_gets_another_task(tmp_path, state):
    """One for each alert: the same alert once more adds nothing, whatever became of its task."""
    with UpsScp() as scp:
        raise_priority(scp, tmp_path, create_if_missing=True)
        scp.tasks[OURS].ProcedureStepState = state
        scp.tasks[OURS].ScheduledProcedureStepModificationDateTime = "20260304090000+0000"
        again = raise_priority(scp, tmp_path, create_if_missing=True)
        assert again == Acknowledged(0x0111, "the task was there already")
        assert list(scp.tasks) == [OURS]
        for expected in (Acknowledged(0), Acknowledged(note="it was HIGH already")):
            later = raise_priority(scp, tmp_path, create_if_missing=True, revision=2)
            assert later == expected
        assert scp.priorities() == {OURS: "HIGH", LATER: "HIGH"}
        assert scp.tasks[LATER].ProcedureStepState == "SCHEDULED"


def test_beside_a_task_in_progress_the_scheduled_one_is_raised(tmp_path):
    """Of two reading tasks only the one that nobody has taken up is changed."""
    tasks = (
        task("1.1", study_uid=STUDY.study_uid, state="IN PROGRESS"),
        task("1.2", study_uid=STUDY.study_uid),
    )
    with UpsScp(*tasks) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "MEDIUM", "1.2": "HIGH"}


def test_a_task_that_is_taken_up_in_between_is_left_alone(tmp_path):
    """0xC301, the answer of a task in progress, ends the matter."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), answers={"set": 0xC301}) as scp:
        answer = raise_priority(scp, tmp_path)
        assert answer == Acknowledged(0xC301, "the task was taken up in between")


def test_a_task_that_ends_in_between_is_no_success(tmp_path):
    """0xC300, the answer of a task that is over: the next try sees what there is to do."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), answers={"set": 0xC300}) as scp:
        answer = raise_priority(scp, tmp_path)
        assert answer == Undelivered("The task was ended in between.", 0xC300)


def test_a_peer_that_ignores_keys_cannot_make_us_raise_strangers(tmp_path):
    """Of everything that a careless archive returns only the study's own task is changed."""
    tasks = (task("1.1", study_uid=OTHER), task("1.2", study_uid=STUDY.study_uid), task("1.3"))
    with UpsScp(*tasks, ignores_keys=True) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "MEDIUM", "1.2": "HIGH", "1.3": "MEDIUM"}


def test_only_reading_tasks_are_raised(tmp_path):
    """A post-processing task of the same study keeps its priority."""
    tasks = (
        task("1.1", study_uid=STUDY.study_uid, workitem="110001"),
        task("1.2", study_uid=STUDY.study_uid, workitem=""),
    )
    with UpsScp(*tasks) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "MEDIUM", "1.2": "HIGH"}


def test_a_task_without_study_uid_is_found_by_order_and_patient(tmp_path):
    """Accession number and patient together find the task; one of them alone does not."""
    tasks = (
        task("1.1", accession_number="ACC-9", patient_id="SIM-9"),
        task("1.2", accession_number="ACC-9", patient_id="SOMEBODY"),
    )
    with UpsScp(*tasks) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "HIGH", "1.2": "MEDIUM"}


def test_a_missing_task_is_waited_for_and_not_created_unasked(tmp_path):
    """Without create_if_missing a study without a task stays undelivered, for a retry."""
    with UpsScp(task("1.1", study_uid=OTHER)) as scp:
        answer = raise_priority(scp, tmp_path)
        assert answer == Undelivered("The study has no reading task.")
        assert list(scp.tasks) == ["1.1"]


def test_a_missing_task_is_created_once_where_asked(tmp_path):
    """create_if_missing makes one task with a UID per alert; a second run finds it HIGH."""
    with UpsScp() as scp:
        assert raise_priority(scp, tmp_path, create_if_missing=True) == Acknowledged(0)
        made = scp.tasks[OURS]
        assert made.ScheduledProcedureStepPriority == "HIGH"
        assert made.ProcedureStepState == "SCHEDULED"
        assert made.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
        assert made.ReferencedRequestSequence[0].AccessionNumber == "ACC-9"
        assert str(made.PatientName) == "Tést^Simulated"
        assert made.InputInformationSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == (
            CT_IMAGE
        )
        again = raise_priority(scp, tmp_path, create_if_missing=True)
        assert again == Acknowledged(note="it was HIGH already")
        assert list(scp.tasks) == [OURS]


def test_a_task_that_appears_before_the_creation_is_taken(tmp_path):
    """The study is looked up again right before creating: the task that came is raised."""
    with UpsScp(appears=task("1.1", study_uid=STUDY.study_uid)) as scp:
        study = study_ref(accession_number="")
        assert raise_priority(scp, tmp_path, study=study, create_if_missing=True) == Acknowledged(0)
        assert scp.priorities() == {"1.1": "HIGH"}


def test_a_creation_that_was_not_answered_is_a_success_when_retried(tmp_path):
    """0x0111 means that the earlier creation, whose answer was lost, had arrived."""
    hidden = task(OURS, study_uid=STUDY.study_uid, workitem="110001")  # not found, but there
    with UpsScp(hidden) as scp:
        answer = raise_priority(scp, tmp_path, create_if_missing=True)
        assert answer == Acknowledged(0x0111, "the task was there already")
        assert scp.calls[-1] == "create"


@pytest.mark.parametrize(
    ("answers", "error", "status"),
    [
        ({"find": 0xA700}, "The query for the reading task failed: status 0xA700.", 0xA700),
        ({"set": 0x0110}, "The peer refused with status 0x0110.", 0x0110),
    ],
)
def test_a_refusal_is_kept_for_a_retry(tmp_path, answers, error, status):
    """A peer that fails to search or to change is asked again later."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), answers=answers) as scp:
        assert raise_priority(scp, tmp_path) == Undelivered(error, status)


def test_the_query_class_finds_and_the_pull_class_sets(tmp_path):
    """Only Pull has N-SET: a peer with Query and Watch alone is told from one that can."""
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), classes=(UPS_QUERY, UPS_WATCH)) as scp:
        answer = raise_priority(scp, tmp_path)
        assert answer == Undelivered(
            "The peer does not let us find and change tasks.", permanent=True
        )
    with UpsScp(task("1.1", study_uid=STUDY.study_uid), classes=(UPS_PULL,)) as scp:
        assert raise_priority(scp, tmp_path) == Acknowledged(0)


def test_creation_needs_the_push_class(tmp_path):
    """A peer without UPS Push cannot be asked to create a task."""
    with UpsScp(classes=(UPS_PULL,)) as scp:
        answer = raise_priority(scp, tmp_path, create_if_missing=True)
        assert answer == Undelivered("The peer does not let us create tasks.", permanent=True)
    with UpsScp(classes=(UPS_PULL, UPS_PUSH)) as scp:
        assert raise_priority(scp, tmp_path, create_if_missing=True) == Acknowledged(0)


def test_odd_identities_do_not_stop_a_creation(tmp_path):
    """Values that are none of their kind are left empty instead of failing the alert."""
    study = study_ref(
        patient_birth_date="1950", patient_sex="?", patient_id="X" * 200, accession_number="A" * 40
    )
    with UpsScp() as scp:
        assert raise_priority(scp, tmp_path, study=study, create_if_missing=True) == Acknowledged(0)
        assert scp.tasks[OURS].PatientBirthDate == ""

"""Reading priority by UPS-RS, over real sockets to a server with tasks."""

from __future__ import annotations

import pytest

from ichnode.domain.ids import result_uid
from ichnode.domain.work import Acknowledged, Undelivered
from ichnode.send.asking import ask
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.settings import SendSettings, UpsRsSettings
from tests.documents import alert_work, study_ref
from tests.http_peer import HttpPeer, answer, silence
from tests.pacs import task
from tests.ups_rs_server import BASE, KEYS, UpsRs

STUDY = study_ref()
OTHER = result_uid("test study", "of somebody else")
OURS = result_uid("ups", STUDY.study_uid, "1")
LATER = result_uid("ups", STUDY.study_uid, "2")
DCM4CHEE = ("0020000D",)


def settings_of(server, **settings):
    return UpsRsSettings(name="tasks", url=f"{server.url}{BASE}/", **settings)


def requested(uid, study_uid, **more):
    """Return a task that names its study in its request only, as dcm4chee keeps it."""
    made = task(uid, **more)
    made.ReferencedRequestSequence[0].StudyInstanceUID = study_uid
    return made


def raised(tmp_path, ups, *, settings=None, **work):
    """Run one priority delivery and return its result."""
    with HttpPeer(ups) as server:
        stage = SendStage(
            tmp_path,
            [settings_of(server, **(settings or {}))],
            SendSettings(),
            calling_ae="ICHNODE",
        )
        return stage.handle(alert_work("ups_rs", "tasks", **work)).results[1]


@pytest.mark.parametrize("ignores", [(), DCM4CHEE])
def test_the_scheduled_task_of_the_study_is_set_to_high(tmp_path, ignores):
    """The study's reading task becomes HIGH, and nobody else's; once more changes nothing."""
    ups = UpsRs(requested("1.1", STUDY.study_uid), requested("1.2", OTHER), ignores=ignores)
    assert raised(tmp_path, ups) == Acknowledged(200)
    assert ups.priorities() == {"1.1": "HIGH", "1.2": "MEDIUM"}
    assert ups.calls == ["find", "set"]
    assert raised(tmp_path, ups) == Acknowledged(note="it was HIGH already")
    assert ups.calls == ["find", "set", "find"]


def test_a_task_that_names_the_study_itself_is_found_as_well(tmp_path):
    """By the standard it is an attribute of the task, too."""
    ups = UpsRs(task("1.1", study_uid=STUDY.study_uid), task("1.2", study_uid=OTHER))
    assert raised(tmp_path, ups) == Acknowledged(200)
    assert ups.priorities() == {"1.1": "HIGH", "1.2": "MEDIUM"}


def test_a_task_without_study_uid_is_found_by_order_and_patient(tmp_path):
    """Accession number and patient together find the task; one of them alone does not."""
    ups = UpsRs(
        task("1.1", accession_number="ACC-9", patient_id="SIM-9"),
        task("1.2", accession_number="ACC-9", patient_id="SOMEBODY"),
    )
    assert raised(tmp_path, ups) == Acknowledged(200)
    assert ups.priorities() == {"1.1": "HIGH", "1.2": "MEDIUM"}


def test_a_task_that_was_taken_up_is_never_touched(tmp_path):
    """A study that is being read needs no priority; nothing is created either."""
    ups = UpsRs(requested("1.1", STUDY.study_uid, state="IN PROGRESS"))
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert answered == Acknowledged(note="the study is being read")
    assert ups.priorities() == {"1.1": "MEDIUM"}
    assert set(ups.calls) == {"find"}


def test_a_task_that_was_completed_with_the_images_there_was_read(tmp_path):
    """Nothing more is owed, and no other is created."""
    over = requested("1.1", STUDY.study_uid, state="COMPLETED", changed="20260304110000+0000")
    ups = UpsRs(over)
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert answered == Acknowledged(note="the study was read after its images had come")
    assert set(ups.calls) == {"find"}


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELED"])
def test_new_blood_after_the_task_is_over_gets_another_task(tmp_path, state):
    """One for each alert, tried again or not; unasked none is made, and nothing counts as told."""
    before = "20260304090000+0000"
    over = requested("1.1", STUDY.study_uid, state=state, changed=before)
    ups = UpsRs(over, ignores=DCM4CHEE)
    unasked = raised(tmp_path, ups)
    assert unasked == Undelivered("The study's reading task is over: none was raised.")
    settings = {"create_if_missing": True}
    assert raised(tmp_path, ups, settings=settings) == Acknowledged(201)
    ups.tasks[OURS].ProcedureStepState = state
    ups.tasks[OURS].ScheduledProcedureStepModificationDateTime = before
    again = raised(tmp_path, ups, settings=settings)
    assert again == Acknowledged(409, "the task was there already")
    assert raised(tmp_path, ups, settings=settings, revision=2) == Acknowledged(201)
    assert ups.priorities() == {"1.1": "MEDIUM", OURS: "HIGH", LATER: "HIGH"}
    states = [str(one.ProcedureStepState) for one in ups.tasks.values()]
    assert states == [state, state, "SCHEDULED"]


def test_a_conflict_is_no_success_before_the_task_is_seen_to_be_taken_up(tmp_path):
    """A server answers so to two changes at once too; the next try looks at the task again."""
    ups = UpsRs(requested("1.1", STUDY.study_uid), answers={"set": 409})
    expected = Undelivered("The task was changed by somebody else in between.", 409)
    assert raised(tmp_path, ups) == expected
    taken = UpsRs(requested("1.1", STUDY.study_uid, state="IN PROGRESS"))
    assert raised(tmp_path, taken) == Acknowledged(note="the study is being read")


def test_only_reading_tasks_are_raised(tmp_path):
    """A post-processing task of the same study keeps its priority."""
    ups = UpsRs(
        requested("1.1", STUDY.study_uid, workitem="110001"),
        requested("1.2", STUDY.study_uid, workitem=""),
    )
    assert raised(tmp_path, ups) == Acknowledged(200)
    assert ups.priorities() == {"1.1": "MEDIUM", "1.2": "HIGH"}


def test_a_missing_task_is_waited_for_and_not_created_unasked(tmp_path):
    """Without create_if_missing a study without a task stays undelivered, for a retry."""
    ups = UpsRs(requested("1.1", OTHER))
    assert raised(tmp_path, ups) == Undelivered("The study has no reading task.")
    assert list(ups.tasks) == ["1.1"]


def test_a_missing_task_is_created_once_where_asked(tmp_path):
    """One task with a UID per alert; a second run finds it HIGH."""
    ups, settings = UpsRs(ignores=DCM4CHEE), {"create_if_missing": True}
    assert raised(tmp_path, ups, settings=settings) == Acknowledged(201)
    made = ups.tasks[OURS]
    assert made.ScheduledProcedureStepPriority == "HIGH"
    assert made.ScheduledProcedureStepStartDateTime == "20260304050607+0000"
    assert made.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
    assert made.ReferencedRequestSequence[0].AccessionNumber == "ACC-9"
    assert str(made.PatientName) == "Tést^Simulated"
    again = raised(tmp_path, ups, settings=settings)
    assert again == Acknowledged(note="it was HIGH already")
    assert list(ups.tasks) == [OURS]


def test_a_creation_that_was_not_answered_is_a_success_when_retried(tmp_path):
    """A conflict means that the earlier creation, whose answer was lost, had arrived."""
    hidden = task(OURS, study_uid=STUDY.study_uid, workitem="110001")  # not found, but there
    ups = UpsRs(hidden)
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert answered == Acknowledged(409, "the task was there already")


def test_a_task_that_appears_before_the_creation_is_taken(tmp_path):
    """The study is looked up again right before creating: the task that came is raised."""
    ups = UpsRs(appears=requested("1.1", STUDY.study_uid))
    assert raised(tmp_path, ups, settings={"create_if_missing": True}) == Acknowledged(200)
    assert ups.priorities() == {"1.1": "HIGH"}


def test_a_server_that_ignores_keys_cannot_make_us_raise_or_add_anything(tmp_path):
    """Where it returns more than can be looked at, nobody knows whether the study has a task."""
    strangers = [requested(f"1.{number}", f"{OTHER}.{number}") for number in range(250)]
    ups = UpsRs(*strangers, ignores=tuple(KEYS))
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert isinstance(answered, Undelivered)
    assert "other studies' tasks" in answered.error
    assert set(ups.priorities().values()) == {"MEDIUM"}
    assert len(ups.tasks) == 250


def test_a_server_that_knows_some_of_the_keys_is_understood(tmp_path):
    """As dcm4chee-arc with many tasks: one question that was understood is enough."""
    strangers = [requested(f"1.{number}", f"{OTHER}.{number}") for number in range(250)]
    ups = UpsRs(*strangers, ignores=DCM4CHEE)
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert answered == Acknowledged(201)
    assert OURS in ups.tasks


def test_a_question_that_finds_too_much_is_left_aside(tmp_path):
    """dcm4chee answers 413 where it would return more than it is set to."""
    ups = UpsRs(answers={"find": 413})
    answered = raised(tmp_path, ups, settings={"create_if_missing": True})
    assert isinstance(answered, Undelivered)
    assert "create" not in ups.calls


@pytest.mark.parametrize(
    ("answers", "status", "permanent"),
    [
        ({"find": 401}, 401, True),
        ({"find": 503}, 503, False),
        ({"set": 400}, 400, True),
        ({"set": 410}, 410, True),
        ({"set": 500}, 500, False),
    ],
)
def test_a_refusal_is_kept_with_its_status(tmp_path, answers, status, permanent):
    """A server that fails to search or to change is asked again later."""
    refused = raised(tmp_path, UpsRs(requested("1.1", STUDY.study_uid), answers=answers))
    assert (refused.status, refused.permanent) == (status, permanent)


DEEP = b'{"0040A370":{"vr":"SQ","Value":[' * 300 + b"{}" + b"]}}" * 300


@pytest.mark.parametrize(
    "strange",
    [
        b"<html>Jane Doe</html>",
        {"error": "Jane Doe"},
        [1],
        [{}],
        [{"00080018": {"vr": "UI", "Value": ["../../x"]}}],
        [{"00080018": {"vr": "UI", "Value": ["1.1"]}, "0040A370": {"vr": "LO", "Value": ["x"]}}],
        [{"00080018": {"vr": "UI", "Value": ["1.1"]}, "0040A370": {"vr": "SQ", "Value": ["x"]}}],
        [{"00080018": {"vr": "UI", "Value": "1.1"}, "00741000": {"Value": 7}}],
        [{"00080018": {"vr": "UI", "Value": [{"a": 1}]}}],
        b'[{"00080018":{"vr":"UI","Value":["1.1"]},' + DEEP[1:] + b"]",
        b"[" * 100000,
    ],
)
def test_an_answer_that_is_no_list_of_tasks_is_seen(tmp_path, strange):
    """Nothing of it is shown, nothing of it is changed."""
    ups = UpsRs(answers={"find": answer(200, strange)})
    result = raised(tmp_path, ups)
    assert isinstance(result, Undelivered)
    assert not result.permanent
    assert "Doe" not in result.error
    assert set(ups.calls) == {"find"}


def test_odd_identities_do_not_stop_a_creation(tmp_path):
    """Values that are none of their kind are left empty instead of failing the alert."""
    study = study_ref(
        patient_birth_date="1950", patient_sex="?", patient_id="X" * 200, accession_number="A&b=*,c"
    )
    ups = UpsRs()
    answered = raised(tmp_path, ups, settings={"create_if_missing": True}, study=study)
    assert answered == Acknowledged(201)
    assert ups.tasks[OURS].PatientBirthDate == ""


def test_a_withdrawn_alert_lowers_nothing(tmp_path):
    """What its priority was before, and what others made of it since, is not known."""
    ups = UpsRs(requested("1.1", STUDY.study_uid, priority="HIGH"))
    answered = raised(tmp_path, ups, withdrawn=True)
    assert answered == Acknowledged(note="a priority is lowered by people only")
    assert ups.calls == []


def test_the_preview_is_what_goes(tmp_path):
    """Every question, the change, and the creation where there may be one."""
    ups, settings = UpsRs(), {"create_if_missing": True, "token": "s3cr3t"}
    with HttpPeer(ups) as server:
        destination = settings_of(server, **settings)
        work = alert_work("ups_rs", "tasks")
        shown = mechanisms_for(destination, tmp_path, "ICHNODE")["ups_rs"].preview(work.items[0])
        assert server.asked == []
        SendStage(tmp_path, [destination], SendSettings(), calling_ae="ICHNODE").handle(work)
        scheduled = [one for one in server.asked if "00741000=SCHEDULED" in one.path]
        made = server.asked[-1]
        for one in (*scheduled, made):
            assert f"{one.method} {server.url}{one.path}" in shown
        assert made.body.decode() in shown
        assert '"HIGH"' in shown
        assert "s3cr3t" not in shown
        assert {one.headers["authorization"] for one in server.asked} == {"Bearer s3cr3t"}


def test_asking_is_a_search_for_one_task():
    """What is no worklist says so."""
    with HttpPeer(UpsRs()) as server:
        assert ask(settings_of(server), "ICHNODE").ok
        assert server.asked[0].path == f"{BASE}/workitems?limit=1"
    for bad in (answer(404), answer(200, b"<html>"), silence()):
        with HttpPeer(lambda _, bad=bad: bad) as server:
            assert not ask(settings_of(server, timeout_s=0.3), "ICHNODE").ok

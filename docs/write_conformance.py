"""Write the tables of docs/conformance.md from what the code negotiates, answers and writes.

The page keeps its sentences; what stands there between ``<!-- NAME -->`` and ``<!-- end -->`` comes
from here, and here from the constants and the functions that the node itself goes by. Only words
are told here. A test compares the result with what is kept, another asks a running receiver: run

    python docs/write_conformance.py

after a change of what is negotiated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

from pydicom.datadict import dictionary_description, keyword_for_tag, tag_for_keyword
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import UID, UID_dictionary
from pynetdicom.dimse_primitives import N_GET, N_SET
from pynetdicom.presentation import build_context

from ichnode.domain import codes, ids
from ichnode.imaging import decoding
from ichnode.imaging.commitment import PUSH_MODEL
from ichnode.query import answers, changing, finding, statuses
from ichnode.query.book import Book
from ichnode.query.notifying import EVENT
from ichnode.receive import admission, intake, provider, questions
from ichnode.report import key_image
from ichnode.send import archive, association, scu, ups
from ichnode.settings import QuerySettings, ReceiveSettings, SendSettings
from ichnode.worklist import outbox

PAGE = Path(__file__).with_name("conformance.md")

TO_THOSE_WHO_MAY_ASK = "`query.enabled`, to those who may ask"
WITH_COMMIT = "where any destination has `commit`; reports (N-EVENT-REPORT) only"

SCU = {  # what the node asks of others, and when
    admission.VERIFICATION: "yes",
    **dict.fromkeys(scu.SR_CLASSES, "yes"),
    key_image.SECONDARY_CAPTURE: "yes",
    outbox.KEY_OBJECT_SELECTION: "option `kos`",
    outbox.GRAYSCALE_PRESENTATION_STATE: "option `gsps`",
    ups.PULL: "option `ups`",
    ups.QUERY: "option `ups`",
    ups.WATCH: "option `ups`",
    ups.PUSH: "option `create_if_missing`",
    archive.FIND: "option `[reconcile]`",
    archive.MOVE: "option `[reconcile]`",
    PUSH_MODEL: "option `commit`",
}

REFUSED = (  # what a site may look for; nobody gets it, whatever is switched on
    "1.2.840.10008.5.1.4.31",  # Modality Worklist
    "1.2.840.10008.3.1.2.3.3",  # Modality Performed Procedure Step
    "1.2.840.10008.3.1.2.3.5",
    "1.2.840.10008.5.1.4.1.2.1.1",  # Patient Root: FIND, MOVE, GET
    "1.2.840.10008.5.1.4.1.2.1.2",
    "1.2.840.10008.5.1.4.1.2.1.3",
    "1.2.840.10008.5.1.4.1.2.2.2",  # Study Root: MOVE, GET
    "1.2.840.10008.5.1.4.1.2.2.3",
    "1.2.840.10008.5.1.4.1.2.3.1",  # Patient/Study Only, retired
    "1.2.840.10008.5.1.4.1.2.4.2",  # Composite Instance Root: MOVE, GET
    "1.2.840.10008.5.1.4.1.2.4.3",
    "1.2.840.10008.5.1.4.33",  # Instance Availability Notification
    ups.PUSH,
    EVENT,
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull, retired
    "1.2.840.10008.5.1.4.37.1",  # Relevant Patient Information
    "1.2.840.10008.5.1.4.41",  # Product Characteristics
    "1.2.840.10008.1.40",  # Procedural Event Logging
    "1.2.840.10008.1.42",  # Substance Administration Logging
    "1.2.840.10008.5.1.1.9",  # Print Management
    "1.2.840.10008.5.1.1.18",
    "1.2.840.10008.5.1.1.33",  # Media Creation Management
    "1.2.840.10008.1.3.10",  # Media Storage Directory
)

STORE_STATUSES = {
    intake.SUCCESS: "Success: the object, and all that is needed to record it, is on stable "
    "storage. Also for an object that is here already, byte for byte",
    intake.OUT_OF_RESOURCES: "Out of resources: the disk is at its reserve or fails, too much "
    "waits for the database, the object is larger than `receive.max_instance_bytes`, or too many "
    "large ones come at once. The sender may try again",
    intake.DOES_NOT_MATCH_CLASS: "Data set does not match SOP class: SOP Class or Instance UID of "
    "the data set and of the request differ",
    intake.CANNOT_UNDERSTAND: "Cannot understand: no data set that can be read; a UID is missing "
    "or is none",
    intake.CLASS_NOT_SUPPORTED: "SOP class not supported: the request names another class than "
    "its presentation context",
    intake.PROCESSING_FAILURE: "Processing failure: a fault of ours; it is in the log",
}

QUERY_STATUSES = {
    "SUCCESS": "done; no more matches",
    "NOT_ALL_ATTRIBUTES": "done, but not every attribute of the request is supported",
    "PENDING": "a match",
    "PENDING_WITHOUT_SOME_KEYS": "a match; not every key of the query is supported",
    "CANCELED": "canceled by C-CANCEL",
    "PROCESSING_FAILURE": "a fault of ours; it is in the log",
    "NO_SUCH_ATTRIBUTE": "N-SET of an attribute that is not to be set",
    "INVALID_ATTRIBUTE_VALUE": "N-SET of a value that cannot be",
    "INVALID_ARGUMENT": "an argument that is none",
    "UNRECOGNISED_OPERATION": "the SOP class has no such request",
    "NO_SUCH_ACTION": "the SOP class has no such action",
    "OUT_OF_RESOURCES": "more matches than `query.max_results`; a data set that is too long; more "
    "than is kept of a task; the worklist does not answer",
    "DOES_NOT_MATCH_CLASS": "no level, not exactly one unique key above it, or several items in "
    "a sequence of the query",
    "CANNOT_UNDERSTAND": "the data set cannot be read, or is in another character set than it "
    "says; a range that is none; a C-FIND failed by a fault of ours",
    "LOCK_NOT_GRANTED": "subscribed without deletion lock: the task is over",
    "ALREADY_CANCELED": "the task is CANCELED already",
    "ALREADY_COMPLETED_WARNING": "the task is COMPLETED already",
    "NO_LONGER_TO_BE_UPDATED": "the task may no longer be updated",
    "WRONG_TRANSACTION_UID": "not the right Transaction UID, or none",
    "ALREADY_IN_PROGRESS": "the task is IN PROGRESS already",
    "ONLY_BY_CREATION": "no request makes a task SCHEDULED",
    "UNFINISHED": "the task does not meet the requirements of its final state",
    "NO_SUCH_TASK": "no such task; a filtered subscription",
    "UNKNOWN_RECEIVER": "nobody has said where the Receiving AE is",
    "NOT_IN_PROGRESS": "the task is not yet IN PROGRESS",
    "ALREADY_COMPLETED": "N-ACTION 2 on a task that is COMPLETED",
    "NO_PERFORMER": "N-ACTION 2, and the performer cannot be told",
    "NOT_FOR_THIS_INSTANCE": "only a global subscription can be suspended",
}

ACTIONS = {
    changing.CHANGE_STATE: "Change UPS State",
    changing.REQUEST_CANCEL: "Request UPS Cancel",
    changing.SUBSCRIBE: "Subscribe",
    changing.UNSUBSCRIBE: "Unsubscribe",
    changing.SUSPEND: "Suspend Global Subscription",
}

TASK_VALUES = {
    "SOPClassUID": "UPS Push, always returned",
    "SOPInstanceUID": "one for ever, always returned",
    "PatientName": "as in the images",
    "PatientID": "as in the images",
    "IssuerOfPatientID": "as in the images",
    "PatientBirthDate": "as in the images",
    "PatientSex": "as in the images",
    "StudyInstanceUID": "as in the images",
    "CommentsOnTheScheduledProcedureStep": "the model's sentence, and that it is not for "
    "diagnostic use",
    "ScheduledProcedureStepStartDateTime": "arrival of the study, in UTC",
    "ScheduledProcedureStepModificationDateTime": "last change of the task, in UTC",
    "ScheduledWorkitemCodeSequence": '(110005, DCM, "Interpretation")',
    "InputInformationSequence": "series and images, Retrieve AE Title `query.retrieve_ae_title`",
    "InputReadinessState": "INCOMPLETE while images arrive, then READY",
    "ReferencedRequestSequence": "Study Instance UID, Accession Number, Requested Procedure "
    "Description (the Study Description); Requested Procedure ID and Code empty",
    "ProcedureStepState": "SCHEDULED, IN PROGRESS, COMPLETED, CANCELED",
    "ScheduledProcedureStepPriority": "[from the list](outputs-list.md#priorities)",
    "WorklistLabel": "`query.worklist_label`",
    "ProcedureStepLabel": "the band in words",
}

BLOCKS: dict[str, Callable[[], Iterator[str]]] = {}
Block = Callable[[], Iterator[str]]


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page as it has to be.

    Raises
    ------
    ValueError
        When the page has not exactly one place for each table.
    """
    page = PAGE.read_text(encoding="utf-8")
    places = re.findall(r"^<!-- (\w+) -->$", page, re.MULTILINE)
    if sorted(places) != sorted([*BLOCKS, *["end"] * len(BLOCKS)]):
        raise ValueError(f"{PAGE.name} has not exactly one place for each of {', '.join(BLOCKS)}")
    for name, rows in BLOCKS.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, rest = page.split(start)
        table = "".join(f"{row}\n" for row in rows())
        page = f"{before}{start}\n{table}\n{rest[rest.index(end) :]}"
    return page


def table_of(*columns: str) -> Callable[[Callable[[], Iterable[tuple[object, ...]]]], Block]:
    """Have a function's rows written at the place that has its name, under these columns."""

    def enter(rows: Callable[[], Iterable[tuple[object, ...]]]) -> Block:
        def block() -> Iterator[str]:
            yield _line(columns)
            yield "|---" * len(columns) + "|"
            yield from map(_line, rows())

        BLOCKS[rows.__name__] = block
        return block

    return enter


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _name(uid: str) -> str:
    retired = " (retired)" if UID(uid).is_retired else ""
    return str(UID(uid).name).removesuffix(" UID").removesuffix(" SOP Class") + retired


def _status(status: int) -> str:
    return f"0x{status:04X}"


def _described(keyword: str) -> str:
    tag = Tag(tag_for_keyword(keyword))
    return f"{dictionary_description(tag)} | ({tag.group:04X},{tag.element:04X})"


def _standard(kind: str) -> list[str]:
    return [uid for uid, entry in UID_dictionary.items() if entry[1] == kind and entry[0]]


def accepted(uid: str, syntaxes: Iterable[str]) -> list[str]:
    """Return the transfer syntaxes that a class is accepted with, everything switched on."""
    contexts = questions.acceptable(
        [build_context(uid, list(syntaxes))], answers.CLASSES, reports=True
    )
    return [str(syntax) for context in contexts for syntax in context.transfer_syntax]


def _as_scp(uid: str) -> str:
    if not accepted(uid, admission.PLAIN):
        return "no"
    if uid in answers.CLASSES:
        return "option `query.enabled`"
    return "reports only" if uid == PUSH_MODEL else "yes"


@table_of("SOP class", "UID", "SCU", "SCP")
def overview() -> Iterator[tuple[object, ...]]:
    """Yield each class that the node has to do with; one line for all that it only stores."""
    for uid, option in SCU.items():
        yield _name(uid), uid, option, _as_scp(uid)
    yield _name(EVENT), EVENT, "no", "option `query.enabled`; the node opens the association"
    others = "[annex](#classes-that-are-stored)"
    yield "Storage, every other class", others, "the command `ichnode send`", "yes"


@table_of("", "value")
def association_facts() -> Iterator[tuple[object, ...]]:
    """Yield what holds for associations in both directions."""
    receive, query = ReceiveSettings(), QuerySettings()
    yield "Application Context Name", "1.2.840.10008.3.1.1.1"
    yield "Implementation Class UID", ids.IMPLEMENTATION_CLASS_UID
    yield "Implementation Version Name", ids.IMPLEMENTATION_VERSION_NAME
    yield "Maximum PDU size offered, as acceptor", provider.MAX_PDU_BYTES
    yield "Maximum PDU size offered, as requestor", association.MAX_PDU
    yield (
        "Associations accepted at a time",
        f"`receive.max_associations` ({receive.max_associations}), per calling host "
        f"`receive.max_associations_per_peer` ({receive.max_associations_per_peer}), of those who "
        f"ask `query.max_associations` ({query.max_associations}), in each receiving process",
    )
    yield (
        "Checks of this machine beside them",
        f"{admission.OWN_ECHOES} that propose Verification only",
    )
    yield "Objects per association, as Storage SCU", f"`send.batch` ({SendSettings().batch})"
    yield "Asynchronous operations", "none: 1 outstanding"


@table_of("abstract syntax", "UID", "transfer syntaxes", "offered")
def accepted_contexts() -> Iterator[tuple[object, ...]]:
    """Yield what RECEIVE accepts."""
    kept = "[every one that can be kept](#transfer-syntaxes)"
    yield _name(admission.VERIFICATION), admission.VERIFICATION, kept, "always"
    yield "Storage", "[annex](#classes-that-are-stored)", kept, "always"
    for uid in sorted(answers.CLASSES):
        offered = accepted(uid, _standard("Transfer Syntax"))
        names = ", ".join(_name(one) for one in offered)
        yield _name(uid), uid, names, TO_THOSE_WHO_MAY_ASK
    yield _name(PUSH_MODEL), PUSH_MODEL, kept, WITH_COMMIT


@table_of("SOP class", "UID")
def refused_classes() -> Iterator[tuple[object, ...]]:
    """Yield what nobody gets.

    Raises
    ------
    ValueError
        For a class that somebody does get.
    """
    for uid in REFUSED:
        if accepted(uid, admission.PLAIN):
            raise ValueError(f"{_name(uid)} is accepted: say so, and take it from the list")
        yield _name(uid), uid


@table_of("transfer syntax", "UID", "kept", "decoded for analysis")
def syntaxes() -> Iterator[tuple[object, ...]]:
    """Yield the standard's transfer syntaxes."""
    for uid in _standard("Transfer Syntax"):
        kept = bool(admission.transfer_syntaxes([uid]))
        yield _name(uid), uid, _yes(kept), _yes(kept and _is_decoded(uid))


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _is_decoded(uid: str) -> bool:
    if uid in decoding._NATIVE:
        return True
    if not uid.startswith((decoding._JPEG, decoding._RLE)):
        return False
    try:
        return bool(get_decoder(UID(uid)).is_available)
    except NotImplementedError:
        return False


@table_of("status", "when")
def store_statuses() -> Iterator[tuple[object, ...]]:
    """Yield what a C-STORE is answered with."""
    yield from ((_status(status), words) for status, words in STORE_STATUSES.items())


@table_of("SOP class", "C-FIND", "N-GET", "N-SET", "N-ACTION")
def task_requests() -> Iterator[tuple[object, ...]]:
    """Yield which request belongs to which class."""
    for uid in (answers.PULL, answers.WATCH, answers.QUERY):
        actions = [
            f"{number} {name}"
            for number, name in ACTIONS.items()
            if uid != answers.QUERY and (number == changing.CHANGE_STATE) == (uid == answers.PULL)
        ]
        asks = [answers._belongs(kind, uid) for kind in (N_GET, N_SET)]
        yield _name(uid), "yes", *map(_yes, asks), ", ".join(actions) or "no"


@table_of("attribute", "tag", "C-FIND and N-GET", "N-SET")
def task_attributes() -> Iterator[tuple[object, ...]]:
    """Yield the attributes of a task."""
    known = _finder()._known
    for tag in sorted({*known, *changing._MAY_BE_SET}):
        keyword = keyword_for_tag(tag)
        can_be_set = tag in changing._MAY_BE_SET
        otherwise = "empty, or as set" if tag in known else "where it was set"
        value = TASK_VALUES.get(keyword, otherwise if can_be_set else "empty")
        yield _described(keyword), value, _yes(can_be_set)


def _finder() -> finding.Finder:
    nobodys = cast(Book, None)  # it is asked for nothing but its attributes
    return finding.Finder(nobodys, most=1, worklist_label="", retrieve_ae_title="")


@table_of("level", "attributes")
def study_attributes() -> Iterator[tuple[object, ...]]:
    """Yield what can be matched and returned at each level."""
    finder, example = _finder(), finding._example()
    for level, look in zip(
        finding._UNIQUE, (finder._study, finder._series, finder._images), strict=True
    ):
        described = next(iter(look(example)))
        yield level, ", ".join(dictionary_description(element.tag) for element in described)


@table_of("status", "when")
def query_statuses() -> Iterator[tuple[object, ...]]:
    """Yield what queries and requests are answered with; each needs its words."""
    for name, status in sorted(_numbers(statuses), key=lambda one: one[1]):
        yield _status(status), QUERY_STATUSES[name]
    yield (
        _status(questions.NOT_AUTHORIZED),
        "the list was closed while the association stood (`ichnode commission --revoke`)",
    )


def _numbers(module: ModuleType) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(module).items() if isinstance(value, int)]


@table_of("AE", "SOP class", "UID", "transfer syntaxes", "service")
def proposed_contexts() -> Iterator[tuple[object, ...]]:
    """Yield what the node proposes; a test compares it with what comes to a peer."""
    little = {association.EXPLICIT_LE, association.IMPLICIT_LE}

    def row(ae: str, uid: str, service: str) -> tuple[object, ...]:
        syntaxes = little if uid != admission.VERIFICATION else {association.IMPLICIT_LE}
        return ae, _name(uid), uid, ", ".join(_name(one) for one in sorted(syntaxes)), service

    yield row("DELIVER", admission.VERIFICATION, "C-ECHO, by `ichnode echo` and `ichnode doctor`")
    for uid in (*scu.SR_CLASSES, key_image.SECONDARY_CAPTURE):
        yield row("DELIVER", uid, "C-STORE")
    for uid in (outbox.KEY_OBJECT_SELECTION, outbox.GRAYSCALE_PRESENTATION_STATE):
        yield row("DELIVER", uid, f"C-STORE, {SCU[uid]}")
    services = {ups.PULL: "C-FIND, N-SET", ups.PUSH: "N-CREATE"}
    for uid in dict.fromkeys(uid for uid, _ in ups._offer(create=True)):
        yield row("DELIVER", uid, f"{services.get(uid, 'C-FIND')}, {SCU[uid]}")
    yield row("DELIVER", EVENT, "N-EVENT-REPORT; we are SCP, by role selection")
    yield row("RECONCILE", archive.FIND, "C-FIND")
    yield row("RECONCILE", archive.MOVE, "C-MOVE, to our own AE title")
    yield row("COMMIT", PUSH_MODEL, "N-ACTION")


@table_of("level", "keys asked for")
def reconcile_keys() -> Iterator[tuple[object, ...]]:
    """Yield what an archive is asked."""
    levels = {"STUDY": archive._STUDY_KEYS, "SERIES": archive._SERIES_KEYS}
    for level, keys in {**levels, "IMAGE": ("SOPInstanceUID",)}.items():
        yield level, ", ".join(dictionary_description(tag_for_keyword(key)) for key in keys)


@table_of("label", "code")
def label_codes() -> Iterator[tuple[object, ...]]:
    """Yield how each label is coded."""
    for label, code in codes.FINDINGS.items():
        yield label, f'({code.value}, {code.scheme}, "{code.meaning}")'


@table_of("SOP class", "UID")
def stored_classes() -> Iterator[tuple[object, ...]]:
    """Yield every class of the standard whose objects are taken."""
    for uid in _standard("SOP Class"):
        if admission.is_storage(uid):
            yield _name(uid), uid


if __name__ == "__main__":
    main()

"""References from a document to the images it is about and to the documents it replaces.

References
----------
DICOM PS3.3 C.17.2.3 (current requested procedure evidence), C.17.2.2 (predecessors), both by the
hierarchical SOP instance reference macro, C.17.2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ichnode.domain.findings import LabelResult, Presence
from ichnode.domain.series import Header, InstanceRef
from ichnode.domain.work import DocumentRef, DocumentWork
from ichnode.report.encoding import Elements, element, reference_item, sequence

EVIDENCE = 0x0040A375
PREDECESSORS = 0x0040A360
_SERIES, _INSTANCES = 0x00081115, 0x00081199


@dataclass(frozen=True, slots=True)
class KeySlice:
    """One analysed image, or one frame of it, that a document points to."""

    instance: InstanceRef
    frame: int | None  # from 1; None for a single-frame image
    place: int  # from 1, counted from the feet upwards
    count: int

    @property
    def header(self) -> Header:
        """The image's header."""
        return self.instance.header


def key_slice(work: DocumentWork, uid: str) -> KeySlice:
    """Find an analysed slice by its UID, ``uid#frame`` for a frame of a multi-frame object.

    Raises
    ------
    KeyError
        When the slice is not among those that were analysed.
    """
    sop_uid, _, frame = uid.partition("#")
    instance = {one.header.sop_uid: one for one in work.instances}[sop_uid]
    order = [name for name, _ in work.result.slice_probabilities]
    place = order.index(uid) + 1 if uid in order else 1
    return KeySlice(instance, int(frame) if frame else None, place, max(len(order), 1))


def middle_slice(work: DocumentWork) -> KeySlice:
    """Return the slice half way up, for a document that has no better one to show."""
    order = [name for name, _ in work.result.slice_probabilities]
    return key_slice(work, order[len(order) // 2] if order else work.instances[0].header.sop_uid)


def shown_slices(work: DocumentWork) -> list[tuple[KeySlice, list[LabelResult]]]:
    """Return the key slices of what is present, each with the labels that it shows best.

    That of "any" comes first; a slice, or a frame, is named once.
    """
    labels: dict[str, list[LabelResult]] = {work.result.of("any").key_sop_uid: []}
    for label in work.result.labels:
        if label.presence is Presence.PRESENT:
            labels.setdefault(label.key_sop_uid, []).append(label)
    return [(key_slice(work, uid), found) for uid, found in labels.items()]


def evidence(work: DocumentWork) -> bytes:
    """Encode the reference to every image that was analysed, and to none that was left out."""
    analysed = {uid.partition("#")[0] for uid, _ in work.result.slice_probabilities}
    return evidence_of(work, [i for i in work.instances if i.header.sop_uid in analysed])


def evidence_of(work: DocumentWork, instances: Iterable[InstanceRef]) -> bytes:
    """Encode the reference to some of the images of the analysed series."""
    images = [
        DocumentRef(i.header.sop_class_uid, i.header.sop_uid, work.series_uid, work.study_uid)
        for i in instances
    ]
    return _references(EVIDENCE, images)


def predecessors(work: DocumentWork) -> dict[int, bytes]:
    """Encode the reference to the documents that this one replaces; nothing where it is first."""
    if not work.predecessors:
        return {}
    return {PREDECESSORS: _references(PREDECESSORS, work.predecessors)}


def _references(tag: int, documents: Sequence[DocumentRef]) -> bytes:
    ordered = sorted(set(documents), key=lambda d: (d.study_uid, d.series_uid, d.sop_uid))
    return sequence(
        tag,
        [
            {
                _SERIES: sequence(_SERIES, _series_items(members)),
                0x0020000D: element(0x0020000D, "UI", study_uid),
            }
            for study_uid, members in groupby(ordered, key=lambda d: d.study_uid)
        ],
    )


def _series_items(documents: Iterable[DocumentRef]) -> list[Elements]:
    return [
        {
            _INSTANCES: sequence(
                _INSTANCES, [reference_item(d.sop_class_uid, d.sop_uid) for d in members]
            ),
            0x0020000E: element(0x0020000E, "UI", series_uid),
        }
        for series_uid, members in groupby(documents, key=lambda d: d.series_uid)
    ]

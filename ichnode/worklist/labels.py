"""Labels: what people say is true of a study. Append only; of one source the newest word counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sqlalchemy import select

from ichnode.domain.findings import LABELS, Label, Presence
from ichnode.domain.labels import SOURCES, LabelSource, Truth, superseding
from ichnode.domain.lifecycle import Band
from ichnode.worklist import tables as t
from ichnode.worklist.columns import accession
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.truths import (
    StudyTruth,
    flagged_by_model,
    spoken,
    truth_about,
    truths,
    was_analysed,
)

BATCH = 200  # lines per transaction: on SQLite the receiver waits meanwhile


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One line of a file of labels, understood and completed.

    Attributes
    ----------
    study_uid, accession_number : str
        Which study, by either or both.
    series_uid : str
        One series of it; "" for the study as a whole.
    stated : mapping
        See `ichnode.domain.labels.completed`.
    """

    line: int
    study_uid: str = field(repr=False)
    accession_number: str = field(repr=False)
    series_uid: str
    stated: Mapping[Label, bool]
    source: LabelSource
    said_by: str


class Outcome(Enum):
    """What became of a line."""

    RECORDED = "recorded"
    UNCHANGED = "unchanged"
    UNKNOWN = "unknown"  # no such study here
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of one line; the sentence quotes no value of it."""

    line: int
    outcome: Outcome
    sentence: str = ""
    superseded: int = 0  # labels that said something else before
    outranked: bool = False  # a more trusted source says otherwise, and that stands
    images_gone: bool = False  # too late for training


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """How much is labelled.

    Attributes
    ----------
    labels : mapping of label to source to (present, absent)
    bands : mapping of band to (labelled, all), analysed or not
    flagged, unflagged : (labelled, all)
        Of the analysed studies those that the model called urgent or to be reviewed, and the rest.
    """

    studies: int
    images_here: int
    collected: int
    labels: Mapping[str, Mapping[str, tuple[int, int]]]
    bands: Mapping[str, tuple[int, int]]
    flagged: tuple[int, int]
    unflagged: tuple[int, int]


class LabelBook:
    """Takes labels in and says how many there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, lines: Sequence[LabelLine], *, dry_run: bool = False) -> list[Entered]:
        """Take in lines of a file and return what became of each.

        Safe to repeat: what was said already changes nothing. Another word of the same source
        takes the place of the earlier one, which stays in the history.

        Parameters
        ----------
        dry_run : bool
            Write nothing.
        """
        done: list[Entered] = []
        for first in range(0, len(lines), BATCH):
            batch = lines[first : first + BATCH]
            opened = self._database.reading() if dry_run else self._database.writing()
            with opened as transaction:
                done += _Entering(transaction, batch, write=not dry_run).enter()
        return done

    def mark_collected(self, study_uids: Sequence[str]) -> int:
        """Note that labelled studies are exported, so that their images need not wait any longer.

        Returns
        -------
        int
            How many were not collected before.
        """
        done = 0
        for first in range(0, len(study_uids), BATCH):
            with self._database.writing() as transaction:
                studies = transaction.session.scalars(
                    select(t.Study)
                    .where(
                        t.Study.study_uid.in_(study_uids[first : first + BATCH]),
                        t.Study.collected_at.is_(None),
                    )
                    .order_by(t.Study.id)
                    .with_for_update(key_share=True)
                )
                for study in studies:
                    study.collected_at = transaction.now
                    done += 1
        return done

    def truth(self, study_uid: str) -> StudyTruth:
        """Return what is known of one study."""
        with self._database.reading() as transaction:
            id_ = transaction.session.scalar(
                select(t.Study.id).where(t.Study.study_uid == study_uid)
            )
            return truths(transaction, [id_ or 0]).get(id_ or 0, StudyTruth())

    def summary(self) -> LabelSummary:
        """Count what is labelled."""
        with self._database.reading() as transaction:
            ids = transaction.session.scalars(select(t.Label.study_id).distinct()).all()
            known: dict[int, Truth] = {}
            for first in range(0, len(ids), BATCH):
                found = truths(transaction, ids[first : first + BATCH])
                known |= {study: _of_any_part(one) for study, one in found.items()}
            labelled = {study for study, truth in known.items() if truth.positive is not None}
            return _summary(transaction, known, labelled)


def _of_any_part(truth: StudyTruth) -> Truth:
    """Return what is known of the study, else of one of its series, for counting."""
    parts = [truth.study, *(truth.series[uid] for uid in sorted(truth.series))]
    return next((one for one in parts if one.positive is not None), parts[0])


def _summary(
    transaction: Transaction, known: Mapping[int, Truth], labelled: set[int]
) -> LabelSummary:
    bands: dict[Band, list[int]] = {band: [0, 0] for band in Band}
    shares = {True: [0, 0], False: [0, 0]}
    here = collected = 0
    asked = select(
        t.Study.id,
        t.Study.band,
        t.Study.purged_at,
        t.Study.collected_at,
        flagged_by_model(),
        was_analysed(),
    )
    for id_, band, purged_at, collected_at, flagged, analysed in transaction.session.execute(asked):
        is_labelled = id_ in labelled
        for counted in (bands[band], *([shares[bool(flagged)]] if analysed else [])):
            counted[0] += is_labelled
            counted[1] += 1
        here += is_labelled and purged_at is None
        collected += is_labelled and collected_at is not None
    return LabelSummary(
        studies=len(labelled),
        images_here=here,
        collected=collected,
        labels=_by_label(known.values()),
        bands={band.value: (one, all_) for band, (one, all_) in bands.items()},
        flagged=(shares[True][0], shares[True][1]),
        unflagged=(shares[False][0], shares[False][1]),
    )


def _by_label(truths_: Iterable[Truth]) -> dict[str, dict[str, tuple[int, int]]]:
    counts: Counter[tuple[str, str, bool]] = Counter()
    for truth in truths_:
        for label, there in zip(LABELS, truth.labels, strict=True):
            if there is not None and truth.source:
                counts[label, truth.source, there] += 1
    return {
        label: {
            source: (counts[label, source, True], counts[label, source, False])
            for source in SOURCES
        }
        for label in LABELS
    }


class _Entering:
    """One batch of lines on its way into the database."""

    def __init__(
        self, transaction: Transaction, lines: Sequence[LabelLine], *, write: bool
    ) -> None:
        self._transaction, self._lines, self._write = transaction, lines, write
        self._studies = self._find_studies()
        ids = [study.id for studies in self._studies.values() for study in studies]
        self._said = spoken(transaction, ids)
        self._series = self._find_series(ids)

    def enter(self) -> list[Entered]:
        return [self._enter(line) for line in self._lines]

    def _find_studies(self) -> dict[tuple[str, str], list[t.Study]]:
        """Return the studies by ("uid", UID) and ("accession", number), locked where we write."""
        uids = {line.study_uid for line in self._lines} - {""}
        numbers = {accession(line.accession_number) for line in self._lines} - {""}
        asked = select(t.Study).where(
            t.Study.study_uid.in_(uids) | t.Study.accession_number.in_(numbers)
        )
        if self._write:
            asked = asked.order_by(t.Study.id).with_for_update(key_share=True)
        found: dict[tuple[str, str], list[t.Study]] = defaultdict(list)
        for study in self._transaction.session.scalars(asked):
            found["uid", study.study_uid].append(study)
            found["accession", study.accession_number].append(study)
        return found

    def _find_series(self, study_ids: Sequence[int]) -> set[tuple[int, str]]:
        uids = {line.series_uid for line in self._lines} - {""}
        rows = self._transaction.session.execute(
            select(t.Series.study_id, t.Series.series_uid).where(
                t.Series.series_uid.in_(uids), t.Series.study_id.in_(study_ids)
            )
        )
        return {(study_id, uid) for study_id, uid in rows}

    def _enter(self, line: LabelLine) -> Entered:
        study = self._study_of(line)
        if isinstance(study, Entered):
            return study
        if line.series_uid and (study.id, line.series_uid) not in self._series:
            return Entered(line.line, Outcome.REFUSED, "series_uid is of no series of that study")
        said = self._said[study.id]
        place = (line.series_uid or None, line.source)
        changes = superseding(said[place], line.stated)
        before = {label: said[place].get(label) for label in changes}
        said[place] |= changes
        truth = truth_about(said, place[0])
        if self._write and changes:
            self._keep(study, line, changes, before)
        return Entered(
            line.line,
            Outcome.RECORDED if changes else Outcome.UNCHANGED,
            superseded=sum(value is not None for value in before.values()),
            outranked=any(truth.of(label) is not there for label, there in line.stated.items()),
            images_gone=study.purged_at is not None and study.collected_at is None,
        )

    def _study_of(self, line: LabelLine) -> t.Study | Entered:
        by_uid = self._studies.get(("uid", line.study_uid), []) if line.study_uid else None
        by_number = (
            self._studies.get(("accession", accession(line.accession_number)), [])
            if line.accession_number
            else None
        )
        if by_uid is not None:
            if by_uid and by_number is not None and by_uid[0] not in by_number:
                return Entered(
                    line.line, Outcome.REFUSED, "study_uid and accession_number name two studies"
                )
            found = by_uid
        else:
            found = by_number or []
        if not found:
            return Entered(line.line, Outcome.UNKNOWN, "no such study has arrived here")
        if len(found) > 1:
            return Entered(
                line.line,
                Outcome.REFUSED,
                f"accession_number names {len(found)} studies; give study_uid",
            )
        return found[0]

    def _keep(
        self,
        study: t.Study,
        line: LabelLine,
        changes: Mapping[Label, Presence],
        before: Mapping[Label, Presence | None],
    ) -> None:
        self._transaction.session.add_all(
            t.Label(
                study_id=study.id,
                series_uid=line.series_uid or None,
                label=label,
                presence=presence.value,
                source=line.source,
                said_by=line.said_by,
                at=self._transaction.now,
            )
            for label, presence in changes.items()
        )
        superseded = {
            label: f"{was.value} to {changes[label].value}"
            for label, was in before.items()
            if was is not None
        }
        self._transaction.event(
            "study",
            "relabelled" if superseded else "labelled",
            study_uid=study.study_uid,
            series_uid=line.series_uid or None,
            source=line.source,
            said_by=line.said_by,
            labels=len(changes),
            **superseded,
        )

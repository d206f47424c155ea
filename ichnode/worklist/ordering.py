"""The priority that a study was ordered with, whoever says it first: its images or its order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from ichnode.domain.hearing import PatientKey
from ichnode.domain.triage import LAST_RANK, Weights, ordered_rank
from ichnode.worklist import tables as t
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Transaction


def take_orders(transaction: Transaction, policy: Policy, studies: Iterable[t.Study]) -> None:
    """Give studies whose images arrive the priority that was ordered before.

    Asked at each batch of images, and not of new studies alone: an order and the first image of its
    study may come in the same moment. The caller holds the rows.
    """
    by_number: dict[str, list[t.Study]] = {}
    for study in studies:
        if study.accession_number:
            by_number.setdefault(study.accession_number, []).append(study)
    if not by_number:
        return
    rows = transaction.session.scalars(
        select(t.Ordered).where(t.Ordered.accession_number.in_(by_number))
    )
    for ordered in rows:
        for study in by_number[ordered.accession_number]:
            if fits(study, ordered.patients, policy.assigning_authority):
                is_new = study.arrived_at == transaction.now
                raise_order(study, ordered.priority, policy.weights, first=is_new)


def raise_order(study: t.Study, stated: str, weights: Weights, *, first: bool = False) -> bool:
    """Take an ordered priority that is more urgent; return whether it is. Nothing moves down.

    So LOW counts where the first word of a study says so, and not when it comes later.

    Parameters
    ----------
    weights : Weights
        By which the study moves further on the list, or less far, than its priority does.
    first : bool
        Nothing else was stated of the study yet, so that LOW counts too.
    """
    rank = ordered_rank(stated)
    unsaid = not study.ordered_priority and (first or rank == study.ordered_rank)
    if not stated or not (unsaid or rank < study.ordered_rank):
        return False
    steps = study.ordered_rank - rank
    steps += weights.of_order(stated) - weights.of_order(study.ordered_priority)
    if not first:
        steps = max(steps, 0)
    study.list_rank = min(max(study.list_rank - steps, 0), LAST_RANK)
    study.ordered_priority, study.ordered_rank = stated, rank
    return True


def fits(study: t.Study, patients: Sequence[Sequence[str]], authority: str) -> bool:
    """Say whether a study can be of one of the patients; who is not named contradicts nothing."""
    mine = PatientKey(study.patient_id, study.issuer_of_patient_id or authority)
    if not mine.id or not patients:
        return True
    return any(mine.may_be(PatientKey(id_, issuer or authority)) for id_, issuer in patients)

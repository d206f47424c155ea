"""What speaks for and against making a challenger the champion; a person decides.

The gates were judged on the locked holdout by the retraining, the shadow was read on live studies
since. Whatever is missing is an objection, and a person who promotes all the same gives a reason,
which is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ichnode.domain.errors import ConfigurationError
from ichnode.nets.manifest import FILE
from ichnode.nets.registry import Entry, Registry, Standing
from ichnode.settings import RetrainSettings
from ichnode.worklist.shadows import ShadowFigures
from ichnode.worklist.worklist import Worklist


@dataclass(frozen=True, slots=True)
class Case:
    """The case of a model that somebody wants to promote.

    Attributes
    ----------
    gates : list of dict
        What each gate said; empty where it went through none.
    days : float
        Since it is challenger.
    objections : tuple of str
        Sentences; empty where nothing speaks against it.
    """

    entry: Entry
    champion: Entry
    gates: tuple[dict[str, Any], ...]
    shadow: ShadowFigures
    days: float
    objections: tuple[str, ...] = field(default=())

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """The gates that had too few cases to tell."""
        return tuple(str(gate.get("id")) for gate in self.gates if gate.get("inconclusive"))


def consider(
    which: str,
    registry: Registry,
    worklist: Worklist,
    settings: RetrainSettings,
    now: datetime | None = None,
) -> Case:
    """Put together the case of a model.

    Parameters
    ----------
    which : str
        An alias or a model UID.

    Raises
    ------
    ModelUnusable
        When it is not there or damaged.
    ConfigurationError
        When it runs already.
    """
    entry, champion = registry.find(which), registry.find("champion")
    entry.verify()
    if entry.model_uid == champion.model_uid:
        raise ConfigurationError(f"The model {entry.model_uid} is the champion already.")
    said = entry.gates()
    shadow = worklist.shadow().figures(entry.model_uid)
    days = 0.0
    if entry.alias == "challenger":
        waited = (now or datetime.now(UTC)) - challenged_at(entry)
        days = waited.total_seconds() / 86400
    objections = (
        *_against_gates(said, champion),
        *_against_shadow(entry, shadow, days, settings),
    )
    gates = tuple(said["gates"]) if said else ()
    return Case(entry, champion, gates, shadow, days, objections)


def challenged_at(entry: Entry) -> datetime:
    """Return since when a model is challenger; where nobody noted it, since it was installed."""
    if entry.since is not None:
        return entry.since.at
    return datetime.fromtimestamp((entry.folder / FILE).stat().st_mtime, UTC)


def _against_gates(said: dict[str, Any] | None, champion: Entry) -> Iterator[str]:
    if said is None:
        yield "It went through no gates: it does not come from `ichnode retrain`."
        return
    refusing = [
        str(gate.get("sentence"))
        for gate in said["gates"]
        if not gate.get("passed") and not gate.get("inconclusive")
    ]
    yield from refusing
    if not said.get("passed") and not refusing:
        yield "Its gates did not pass."
    if said.get("champion_uid", champion.model_uid) != champion.model_uid:
        yield "Its gates compared it with another model than the one that runs now."


def _against_shadow(
    entry: Entry, shadow: ShadowFigures, days: float, settings: RetrainSettings
) -> Iterator[str]:
    if entry.alias != "challenger" and (settings.shadow_studies or settings.shadow_days):
        yield "It is not the challenger, so that it reads nothing in the shadow now."
    if (missing := settings.shadow_studies - shadow.studies) > 0:
        yield (
            f"It has read {shadow.studies} live studies in the shadow; {missing} more are needed."
        )
    if days < settings.shadow_days:
        yield (
            f"It has been challenger for {days:.1f} days; {settings.shadow_days - days:.1f} more "
            "are needed."
        )
    if shadow.studies and shadow.share > settings.shadow_disagreement:
        yield (
            f"It puts {len(shadow.disagreements)} of {shadow.studies} studies "
            f"({shadow.share:.1%}) in another band than the champion; at most "
            f"{settings.shadow_disagreement:.0%} are allowed."
        )
    if shadow.failed:
        yield f"It failed on {shadow.failed} series in the shadow."


def promote(
    case: Case, registry: Registry, worklist: Worklist, *, by: str, despite: str = ""
) -> None:
    """Make the model the champion, and note who decided, on which grounds, against what.

    Raises
    ------
    ConfigurationError
        When something speaks against it and no reason is given.
    """
    if case.objections and not despite.strip():
        raise ConfigurationError("There are objections; give --despite with a reason, or wait.")
    shadow = case.shadow
    grounds = (
        f"despite {len(case.objections)} objections: {despite}"
        if case.objections
        else f"every gate passed; {shadow.studies} studies in the shadow"
    )
    registry.promote(case.entry.model_uid, by=by, reason=grounds)
    worklist.history.note_once(
        "promoted",
        case.entry.model_uid,
        _standing(registry).at,
        by=by,
        before=case.champion.model_uid,
        reason=grounds,
        objections=list(case.objections) or None,
        inconclusive=list(case.inconclusive) or None,
        shadow_studies=shadow.studies,
        shadow_disagreements=len(shadow.disagreements),
    )


def roll_back(registry: Registry, worklist: Worklist, *, by: str, reason: str) -> Entry:
    """Go back to the previous model, and note who decided and why.

    Raises
    ------
    ModelUnusable
        When there is none, or it is damaged; the champion then stays as it was.
    """
    left = registry.find("champion")
    entry = registry.rollback(by=by, reason=reason)
    worklist.history.note_once(
        "rolled_back",
        entry.model_uid,
        _standing(registry).at,
        by=by,
        before=left.model_uid,
        reason=reason,
    )
    return entry


def _standing(registry: Registry) -> Standing:
    since = registry.find("champion").since
    return since if since is not None else Standing(datetime.now(UTC))

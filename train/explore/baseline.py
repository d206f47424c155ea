"""Can the label be told from metadata alone? It should not; where it can, something leaks.

The paper's random forest on what the header says reaches about 50 % balanced accuracy, which is a
coin. It is kept as an alarm: where bits stored, intercept or the number of slices tell bleeds from
the rest, a network may learn them from the look of the images as well, and a split by patients does
not help. Two levels are looked at. Of series, by what is said of the whole: that is the alarm. Of
slices, with the place in the series: that is the paper's; its AUROC may honestly be above a half,
because bleeds lie where the brain is. Age and sex are left out of both, they are risks and no leak.

References
----------
Breiman L, Random forests, Machine Learning 2001.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold

from ichnode.domain.findings import Label
from train.explore.explored import Explored
from train.judge.bootstrap import DRAWS, Interval, auroc_interval, draw_counts
from train.judge.metrics import auroc

Level = Literal["series", "slice"]
State = Literal["clear", "look", "alarm", "unknown"]
Floats = npt.NDArray[np.float64]
Owners = npt.NDArray[np.int64]

ALARM_ABOVE = 0.60
"""AUROC of metadata alone above which something leaks."""

PAPER_BALANCED_ACCURACY = 0.50
LEAST_PATIENTS = 10
"""With haemorrhage, and without; with fewer nothing is said."""

TREES = 200

_NUMBERS = ("bits_stored", "pixel_representation", "intercept_hu", "slope", "thickness_mm",
            "step_mm", "rows", "columns", "window_center", "window_width", "repaired",
            "hu_suspect", "slices")  # fmt: skip
_NAMES = ("dataset", "manufacturer", "model_name", "kernel")
_PLACE = ("place", "position_mm")
_LEAST_IN_A_LEAF, _FOLDS, _SEED = 3, 5, 7
_MOST_ROWS = 60_000
_PARALLEL_FROM = 5_000  # rows
_REPEATS, _MOST_SHUFFLED = 3, 5_000


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """What is known without a look at the images.

    Attributes
    ----------
    values : ndarray, float64, (n, feature)
        Names as numbers, the most frequent first; NaN where nothing is stated.
    truth : ndarray, float64, (n,)
        1 or 0.
    owner : ndarray, int64, (n,)
        The number of the patient.
    constant : tuple of str
        Features that are the same everywhere, and so are none.
    """

    level: Level
    label: Label
    features: tuple[str, ...]
    values: Floats = field(repr=False)
    truth: Floats = field(repr=False)
    owner: Owners = field(repr=False)
    constant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What metadata alone can tell.

    Attributes
    ----------
    balanced_accuracy : float
        Of patients that the forest has not seen; NaN where it could not be tried.
    area : Interval
        AUROC, with the 95 % interval from drawing whole patients.
    importances : tuple of (str, float)
        By how much the AUROC falls when one feature is shuffled, the most important first.
    why_not : str
        Why it could not be tried; "" where it was.
    """

    level: Level
    label: Label
    rows: int
    positives: int
    patients: int
    balanced_accuracy: float
    area: Interval
    importances: tuple[tuple[str, float], ...]
    constant: tuple[str, ...]
    why_not: str = ""

    @property
    def state(self) -> State:
        """Whether something leaks: "alarm" where the interval says so, "look" where it may be."""
        if self.why_not:
            return "unknown"
        if self.area.low > ALARM_ABOVE:
            return "alarm"
        return "look" if self.area.value > ALARM_ABOVE else "clear"

    def sentence(self) -> str:
        """Say what was found."""
        if self.why_not:
            return f"Not tried on {plural(self.level)}: {self.why_not}."
        accuracy, area = 100 * self.balanced_accuracy, self.area
        return (
            f'Metadata alone tells "{self.label}" of {self.rows:,} {plural(self.level)} of '
            f"{self.patients:,} patients with a balanced accuracy of {accuracy:.1f} % (a coin: "
            f"50 %; the paper: about {100 * PAPER_BALANCED_ACCURACY:.0f} %) and an AUROC of "
            f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]."
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        found = {
            "level": self.level,
            "label": self.label,
            "rows": self.rows,
            "positives": self.positives,
            "patients": self.patients,
            "state": self.state,
            "constant": list(self.constant),
        }
        if self.why_not:
            return found | {"why_not": self.why_not}
        area = {name: round(getattr(self.area, name), 5) for name in ("value", "low", "high")}
        return found | {
            "balanced_accuracy": round(self.balanced_accuracy, 5),
            "auroc": area,
            "importances": {name: round(value, 5) for name, value in self.importances},
        }


def plural(level: Level) -> str:
    """Return "series" or "slices"."""
    return "series" if level == "series" else "slices"


def metadata_of(explored: Explored, level: Level = "series", label: Label = "any") -> Metadata:
    """Return the metadata of everything whose label is known.

    Of slices so many whole patients are taken as make some tens of thousands of rows.
    """
    table = explored.series if level == "series" else _slices(explored)
    table = table[table[label].notna()]
    columns = (*_NAMES, *_NUMBERS, *(_PLACE if level == "slice" else ()))
    coded = {name: _coded(table[name]) for name in columns}
    telling = tuple(name for name in columns if _differs(coded[name]))
    owner = pd.factorize(table["patient"])[0].astype(np.int64)
    return Metadata(
        level=level,
        label=label,
        features=telling,
        values=np.stack([coded[name] for name in telling], axis=1)
        if telling
        else np.empty((len(table), 0)),
        truth=table[label].to_numpy(np.float64),
        owner=owner,
        constant=tuple(name for name in columns if name not in telling),
    )


def metadata_baseline(
    metadata: Metadata, *, seed: int = _SEED, trees: int = TREES, draws: int = DRAWS
) -> Baseline:
    """Fit the forest, patient by patient apart, and say how well it tells.

    Parameters
    ----------
    seed : int
        Of folds, trees and shuffles.
    trees : int
        Of the forest.
    draws : int
        Of patients, for the interval.
    """
    truth, owner = metadata.truth, metadata.owner
    why_not = _why_not(metadata)
    if why_not:
        nothing = Interval(math.nan, math.nan, math.nan)
        return _baseline(metadata, math.nan, nothing, (), why_not)
    scores = np.full(len(truth), np.nan)
    falls: list[Floats] = []
    rng = np.random.default_rng(seed)
    for learnt, asked in _folds(truth, owner, seed):
        forest = _forest(trees, seed, len(learnt)).fit(metadata.values[learnt], truth[learnt])
        scores[asked] = forest.predict_proba(metadata.values[asked])[:, 1]
        shuffled = rng.permutation(asked)[:_MOST_SHUFFLED]
        falls.append(_falls(forest, metadata.values[shuffled], truth[shuffled], rng))
    counts = draw_counts(int(owner.max()) + 1, draws, seed)
    fall = np.nanmean(np.stack(falls), axis=0)
    order = np.argsort(-fall, kind="stable")
    return _baseline(
        metadata,
        float(balanced_accuracy_score(truth == 1, scores >= 0.5)),
        auroc_interval(counts, owner, scores, truth),
        tuple((metadata.features[i], float(fall[i])) for i in order),
        "",
    )


def _baseline(
    metadata: Metadata,
    balanced_accuracy: float,
    area: Interval,
    importances: tuple[tuple[str, float], ...],
    why_not: str,
) -> Baseline:
    return Baseline(
        level=metadata.level,
        label=metadata.label,
        rows=len(metadata.truth),
        positives=int(metadata.truth.sum()),
        patients=len(np.unique(metadata.owner)),
        balanced_accuracy=balanced_accuracy,
        area=area,
        importances=importances,
        constant=metadata.constant,
        why_not=why_not,
    )


def _why_not(metadata: Metadata) -> str:
    with_it = len(np.unique(metadata.owner[metadata.truth == 1]))
    without = len(np.unique(metadata.owner[metadata.truth == 0]))
    if min(with_it, without) < LEAST_PATIENTS:
        return (
            f"{with_it} patients with and {without} without {metadata.label} are known, at least "
            f"{LEAST_PATIENTS} of each are needed"
        )
    return "" if metadata.features else "the metadata are the same everywhere"


def _slices(explored: Explored) -> pd.DataFrame:
    """Return slices with what is said of their series, of as many patients as are looked at."""
    patients = explored.slices["patient"]
    if len(patients) > _MOST_ROWS:
        shuffled = np.random.default_rng(_SEED).permutation(np.sort(patients.unique()))
        sizes = patients.value_counts()[shuffled].cumsum().to_numpy()
        patients = pd.Series(shuffled[: max(int(np.searchsorted(sizes, _MOST_ROWS)), 1)])
    slices = explored.slices[explored.slices["patient"].isin(set(patients))]
    whole = explored.series.set_index("series_number")[["slices", "step_mm"]]
    slices = slices.join(whole, on="series_number")
    return slices.assign(place=slices["slab"] / (slices["slices"] - 1).clip(lower=1))


def _coded(column: pd.Series) -> Floats:
    """Return a column as numbers: names by how frequent they are."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        numbers: Floats = column.to_numpy(np.float64)
        return numbers
    names = column.astype(str).str.strip()
    order = {name: number for number, name in enumerate(names.value_counts().index)}
    ranks: Floats = names.map(order).to_numpy(np.float64)
    return ranks


def _differs(values: Floats) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and (len(np.unique(known)) > 1 or len(known) < len(values))


def _folds(truth: Floats, owner: Owners, seed: int) -> Iterator[tuple[Owners, Owners]]:
    """Yield rows to learn from and to ask about: whole patients, as many bleeds in each fold."""
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    yield from folds.split(truth, truth == 1, owner)


def _forest(trees: int, seed: int, rows: int) -> RandomForestClassifier:
    return RandomForestClassifier(
        trees,
        min_samples_leaf=_LEAST_IN_A_LEAF,
        class_weight="balanced_subsample",
        random_state=seed,
        n_jobs=-1 if rows >= _PARALLEL_FROM else 1,
    )


def _falls(
    forest: RandomForestClassifier, values: Floats, truth: Floats, rng: np.random.Generator
) -> Floats:
    """Return by how much the AUROC falls when each feature is shuffled."""
    whole = auroc(forest.predict_proba(values)[:, 1], truth)
    falls = np.zeros(values.shape[1])
    for feature in range(values.shape[1]):
        for _ in range(_REPEATS):
            shuffled = values.copy()
            shuffled[:, feature] = rng.permutation(shuffled[:, feature])
            falls[feature] += whole - auroc(forest.predict_proba(shuffled)[:, 1], truth)
    return falls / _REPEATS

"""Kitamura's Head CT set: 200 single slices as PNG, half of them with blood. A smoke test only.

The folder holds ``labels.csv`` (whose second column is called " hemorrhage", with the blank) and
``head_ct/head_ct/000.png`` to ``199.png``. The pictures were windowed and are of any size; there
are no Hounsfield units, no spacing, no patients and no kinds of blood. Grey is read as 0 to 80 HU,
the longer side as a usual field of view, every picture as a patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ichnode.domain.findings import LABELS
from train.data.reading import pseudonym
from train.data.records import UNKNOWN, Facts, Licence, SourceSeries, unknown_labels
from train.data.sources.labels_csv import digest_of, existing, read_rows, refuse_labels
from train.data.window import BRAIN_HU
from train.errors import TrainingError, Unusable

LABELS_FILE = "labels.csv"
IMAGES = Path("head_ct", "head_ct")
FIELD_OF_VIEW_MM = 230.0
STEP_MM = 5.0
LICENCE = Licence(
    "not stated with the files (taken as non-commercial)",
    non_commercial=True,
    cite="Kitamura F, Head CT - hemorrhage, Kaggle 2018.",
)
_LEAST_DEVIATION_HU = 1.0


@dataclass(frozen=True, slots=True)
class Kitamura:
    """The pictures.

    Attributes
    ----------
    stated : mapping
        Number of the picture to whether there is blood; None where the file does not say.
    """

    folder: Path
    stated: Mapping[int, bool | None] = field(repr=False)
    key: bytes = field(repr=False)
    labels_digest: str
    remarks: tuple[str, ...] = (
        "These are windowed pictures without Hounsfield units: try code on them, measure nothing.",
    )
    name: str = "kitamura"

    @property
    def licence(self) -> Licence:
        """Unclear, and so non-commercial."""
        return LICENCE

    def jobs(self) -> Sequence[str]:
        """Return the numbers, as files are named."""
        return [f"{number:03d}" for number in self.stated]

    def read(self, job: str) -> SourceSeries:
        """Read one picture as a series of one slice, of which "any" alone is known."""
        hu = _hounsfield(self.folder / IMAGES / f"{job}.png")
        labels = unknown_labels(1)
        if (there := self.stated[int(job)]) is None:
            raise Unusable("no label")
        labels[0, 0] = float(there)
        rows, columns = hu.shape[1:]
        spacing_mm = FIELD_OF_VIEW_MM / max(rows, columns)
        return SourceSeries(
            dataset=self.name,
            patient=pseudonym(self.name, job, key=self.key),
            study=job,
            series=job,
            hu=hu,
            spacing_mm=(STEP_MM, spacing_mm, spacing_mm),
            positions_mm=np.zeros(1),
            slice_keys=(job,),
            slice_labels=labels,
            series_labels=np.full(len(LABELS), UNKNOWN),
            facts=Facts(bits_stored=8, rows=rows, columns=columns),
            label_source="readers",
        )


def open_source(path: str, labels: Path | None, key: bytes) -> Kitamura:
    """Open the dataset.

    Raises
    ------
    TrainingError
        When the folder is not that of the dataset, or its CSV is not as it was published.
    """
    refuse_labels(labels, "Kitamura's set")
    folder = Path(path)
    existing(folder / IMAGES)
    stated: dict[int, bool | None] = {}
    for row in read_rows(folder / LABELS_FILE, ("id", "hemorrhage")):
        number, there = row.whole_number("id"), row.flag("hemorrhage")
        if stated.setdefault(number, there) is not there:
            raise TrainingError(
                f"Line {row.line} of {row.file} labels a picture differently from an earlier "
                "line; take the file as it was published."
            )
    return Kitamura(folder, stated, key, digest_of(folder / LABELS_FILE))


def _hounsfield(path: Path) -> npt.NDArray[np.int16]:
    """Return (1, y, x): black is 0 HU and white 80, as in the brain window."""
    if not path.is_file():
        raise Unusable("no file", path.name)
    try:
        with Image.open(path) as picture:
            grey = np.asarray(picture.convert("L"), np.float32)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise Unusable("undecodable", type(error).__name__) from error
    low, high = BRAIN_HU
    hu = np.rint(low + grey / 255 * (high - low)).astype(np.int16)[None]
    if hu.std() < _LEAST_DEVIATION_HU:
        raise Unusable("blank image")
    whole: npt.NDArray[np.int16] = hu
    return whole

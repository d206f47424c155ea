"""The key image of a positive series as a Secondary Capture, for archives that only show images.

One picture in a series of its own, with a number that does not hang first. It never goes into the
CT series, and its words say what it is even where headers are not shown.

References
----------
DICOM PS3.3 A.8.1 (Secondary Capture), C.8.6 (SC equipment and image), C.7.6.1 (general image).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import BloodMask, Finding, HeatMap, LabelResult
from ichnode.domain.work import DocumentWork
from ichnode.imaging.decoding import decode, read_picture
from ichnode.imaging.header import orientation, pixel_spacing_mm
from ichnode.imaging.hounsfield import to_hounsfield
from ichnode.imaging.masks import LEAST_CHANCE, unpack, unpack_heat
from ichnode.report import codes
from ichnode.report.caption import Caption, Line
from ichnode.report.encoding import (
    ascii_text,
    code_item,
    element,
    file_bytes,
    reference_item,
    sequence,
)
from ichnode.report.evidence import KeySlice, key_slice
from ichnode.report.heading import (
    NOT_FOR_DIAGNOSIS,
    Model,
    Series,
    document_series_uid,
    heading,
)
from ichnode.report.picture import AS_READ, BANNER, draw, upright
from ichnode.report.source import Source
from ichnode.report.structured_report import per_cent
from ichnode.report.wash import Floats, laid
from ichnode.settings import ReportSettings
from ichnode.spool import resolve

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DESCRIPTION = f"AI ICH key image - {NOT_FOR_DIAGNOSIS}"

_TITLES = {
    Finding.POSITIVE: "Intracranial haemorrhage suspected",
    Finding.REVIEW: "Intracranial haemorrhage cannot be excluded",
    Finding.NEGATIVE: "Slice with the highest score",
}
_NAMES = {"any": "any haemorrhage"}
_PER_CENT = "Per cent: the model's certainty for the series"
_READ = "Preliminary: read the original images."


def key_image(work: DocumentWork, settings: ReportSettings, source: Source, spool: Path) -> bytes:
    """Write the key image of one analysis.

    Returns
    -------
    bytes
        A Part 10 file in Explicit VR Little Endian; the same work gives the same bytes.

    Raises
    ------
    NotAnalysable
        When the key slice cannot be decoded any more.
    """
    key = key_slice(work, work.result.of("any").key_sop_uid)
    pixels = _picture(work, settings, source, key, spool)
    series = Series(document_series_uid(work), "OT", settings.series_number_sc, DESCRIPTION)
    reference = reference_item(key.header.sop_class_uid, key.header.sop_uid, key.frame)
    purpose = {0x0040A170: sequence(0x0040A170, [code_item(codes.SOURCE_IMAGE)])}
    elements = heading(work, settings, source, series)
    elements |= _pixel_elements(pixels) | {
        0x00080008: element(0x00080008, "CS", "DERIVED\\SECONDARY"),
        0x00080064: element(0x00080064, "CS", "WSD"),  # workstation
        0x00082111: element(0x00082111, "ST", "Key slice in the brain window with AI output"),
        0x00082112: sequence(0x00082112, [{**reference, **purpose}]),
        0x00180015: element(0x00180015, "CS", "HEAD"),
        0x00200020: element(0x00200020, "CS", ""),  # letters in the picture say it where known
        0x00204000: element(0x00204000, "LT", BANNER),
        0x00280301: element(0x00280301, "CS", "YES"),  # burned-in annotation
    }
    return file_bytes(work.sop_class_uid, work.sop_uid, elements)


def _pixel_elements(pixels: npt.NDArray[np.uint8]) -> dict[int, bytes]:
    rows, columns, _ = pixels.shape
    return {
        0x00280002: element(0x00280002, "US", 3),
        0x00280004: element(0x00280004, "CS", "RGB"),
        0x00280006: element(0x00280006, "US", 0),
        0x00280010: element(0x00280010, "US", rows),
        0x00280011: element(0x00280011, "US", columns),
        0x00280100: element(0x00280100, "US", 8),
        0x00280101: element(0x00280101, "US", 8),
        0x00280102: element(0x00280102, "US", 7),
        0x00280103: element(0x00280103, "US", 0),
        0x7FE00010: element(0x7FE00010, "OB", pixels.tobytes()),
    }


def _picture(
    work: DocumentWork, settings: ReportSettings, source: Source, key: KeySlice, spool: Path
) -> npt.NDArray[np.uint8]:
    """Decode the key slice and draw it with its caption: shape (y, x, 3), uint8, RGB."""
    picture = read_picture(resolve(spool, key.instance.path))
    frame = (key.frame or 1) - 1
    hu = to_hounsfield(picture.dataset, decode(picture)[frame], frame=frame)
    directions = orientation(picture.dataset, frame)
    grey = upright(hu, directions, pixel_spacing_mm(picture.dataset, frame))
    caption = _caption(work, Model.of(work, settings), key, source.local(work.analysed_at))
    if not _is_axial(directions):
        return draw(grey, caption, sides=None)
    shape = (hu.shape[0], hu.shape[1])
    heat = _heat(work, shape, grey.shape) if settings.heat_map else None
    if heat is not None:
        caption = replace(caption, note=f"{_PER_CENT}, in the heat map for the place. {_READ}")
    return draw(grey, caption, sides=AS_READ, mask=_mask(work, shape), heat=heat)


def _mask(work: DocumentWork, shape: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """Return what was drawn on the key slice, upright; None where nothing was, or not on this."""
    held = work.result.key_mask
    if held is None or not _is_of(held, work, shape):
        return None
    try:
        return unpack(held)
    except ValueError:
        return None  # the slice alone is what a key image is for


def _heat(work: DocumentWork, shape: tuple[int, int], picture: tuple[int, int]) -> Floats | None:
    """Return the heat map of the key slice on its picture; None as for the mask."""
    held = work.result.key_heat
    if held is None or not _is_of(held, work, shape):
        return None
    try:
        chances = laid(unpack_heat(held), shape, picture)
    except ValueError:
        return None
    return chances if chances.max() >= LEAST_CHANCE else None


def _is_of(held: BloodMask | HeatMap, work: DocumentWork, shape: tuple[int, int]) -> bool:
    """Whether something was drawn on the key slice, at its size."""
    return (held.slice_uid, held.rows, held.columns) == (work.result.of("any").key_sop_uid, *shape)


def _is_axial(directions: tuple[float, ...] | None) -> bool:
    """Whether rows run across the patient and columns from front to back, tilted or not."""
    return directions is not None and abs(directions[0]) > 0.7 and abs(directions[4]) > 0.7


def _caption(work: DocumentWork, model: Model, key: KeySlice, local: datetime) -> Caption:
    number = key.header.instance_number
    image = f", image {number}" if number is not None else ""
    zone = local.strftime("%z")
    return Caption(
        title=_TITLES[work.result.finding],
        lines=[_line(label) for label in work.result.labels],
        facts=[
            ("Slice", f"{key.place} of {key.count} from below{image}"),
            *_volume(work.result.of("any")),
            ("Model", f"{model.name} {model.version}"),
            ("Analysed", f"{local:%Y-%m-%d %H:%M} UTC{zone[:3]}:{zone[3:5]}"),
            *(("Input", ascii_text(warning, 80)) for warning in work.result.warnings[:2]),
        ],
        note=f"{_PER_CENT}. {_READ}",
    )


def _volume(whole: LabelResult) -> list[tuple[str, str]]:
    if whole.volume_ml is None:
        return []
    digits = 1 if whole.volume_ml < 10 else 0
    return [("Volume", f"about {whole.volume_ml:.{digits}f} ml, AI estimate")]


def _line(label: LabelResult) -> Line:
    return Line(_NAMES.get(label.label, label.label), per_cent(label), label.presence)

"""The presentation state, written and re-read; its outline laid over the slice as it is stored."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from highdicom.color import CIELabColor
from pydicom import dcmread

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.findings import Presence
from ichnode.imaging.geometry import Plane, as_stored, canonical, plane_of
from ichnode.report.annotation import MOST_LINES, MOST_POINTS
from ichnode.report.caption import YELLOW
from ichnode.report.picture import CYAN
from ichnode.report.presentation_state import rotation
from ichnode.report.stage import ReportStage
from ichnode.settings import ReportSettings
from ichnode.spool import resolve
from tests.documents import (
    MODEL_UID,
    ct_slice,
    document_work,
    keep,
    keep_series,
    part10,
    result,
    with_volume,
)
from tests.imaging_scans import enhanced_ct

BLOOD = (slice(32, 38), slice(32, 41))  # of the upright slice: rows, columns
ORIENTATIONS = {
    "as it is read": (1, 0, 0, 0, 1, 0),
    "mirrored": (-1, 0, 0, 0, 1, 0),
    "upside down": (1, 0, 0, 0, -1, 0),
    "turned by 180": (-1, 0, 0, 0, -1, 0),
    "rows from front to back": (0, 1, 0, 1, 0, 0),
    "turned by 90": (0, -1, 0, 1, 0, 0),
    "turned by 270": (0, 1, 0, -1, 0, 0),
    "rows from back to front": (0, -1, 0, -1, 0, 0),
    "tilted": (1, 0, 0, 0, 0.940, -0.342),
}


def write(spool, work, settings=None):
    """Build a document and re-read it."""
    built = ReportStage(spool, settings or ReportSettings()).handle(work)
    return dcmread(resolve(spool, built.path))


def drawn_mask():
    """The blood of `ct_slice`, upright."""
    mask = np.zeros((64, 64), bool)
    mask[BLOOD] = True
    return mask


def state(spool, *, mask=None, settings=None, given=None, **slices):
    """The presentation state of a small series, and its instances."""
    instances = keep_series(spool, 5, **slices)
    whole = given or result([one.header.sop_uid for one in instances])
    if mask is not None:
        whole = with_volume(whole, 12.3, mask)
    work = document_work(instances, "gsps", result=whole)
    return write(spool, work, settings), instances


def pixels_of(image):
    """The stored values of an uncompressed slice of 64 x 64 pixels."""
    return np.frombuffer(image.PixelData, "<i2").reshape(64, 64)


def stored_series(spool, orientation):
    """A series whose pixels lie as an orientation says, the anatomy being the same."""
    plane = plane_of(orientation)
    pixels = pixels_of(ct_slice(0))
    stored = np.ascontiguousarray(as_stored(pixels, plane)).astype("<i2").tobytes()
    return {"ImageOrientationPatient": list(orientation), "PixelData": stored}


def words(annotation):
    return annotation.TextObjectSequence[0].UnformattedTextValue.split("\r\n")


def lines(document):
    """The polylines of a document: arrays of (column, row)."""
    return [
        np.array(graphic.GraphicData).reshape(-1, 2)
        for annotation in document.GraphicAnnotationSequence
        for graphic in annotation.get("GraphicObjectSequence", ())
    ]


def test_it_has_all_that_the_standard_asks_for(tmp_path):
    """Each mandatory attribute of the modules of PS3.3 A.33.1 has its value."""
    document, instances = state(tmp_path, mask=drawn_mask())
    header = instances[0].header
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.11.1"
    assert (document.Modality, document.SeriesNumber, document.InstanceNumber) == ("PR", 9007, 1)
    for empty_or_not in (  # type 2
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "Manufacturer",
        "ContentCreatorName",
    ):
        assert empty_or_not in document, empty_or_not
    assert document.StudyInstanceUID == header.study_uid
    assert document.SeriesInstanceUID not in {header.series_uid, header.study_uid}
    assert document.ContentLabel == "AI_ICH"
    assert document.ContentDescription == "AI ICH annotation - NOT FOR DIAGNOSIS"
    assert document.PresentationCreationDate == "20260304"
    assert len(document.PresentationCreationTime) == 6
    (series,) = document.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.series_uid
    (area,) = document.DisplayedAreaSelectionSequence
    assert area.DisplayedAreaTopLeftHandCorner == [1, 1]
    assert area.DisplayedAreaBottomRightHandCorner == [64, 64]
    assert area.PresentationSizeMode == "SCALE TO FIT"
    assert area.PresentationPixelSpacing == [3.59375, 3.59375]
    layers = [layer.GraphicLayer for layer in document.GraphicLayerSequence]
    assert layers == ["AI_TEXT", "AI_OUTLINE"]
    assert [layer.GraphicLayerOrder for layer in document.GraphicLayerSequence] == [1, 2]
    assert document.ContributingEquipmentSequence[0].DeviceUID == MODEL_UID
    assert "ContentDate" not in document
    assert "PixelData" not in document
    assert "ImageRotation" not in document


def test_the_grey_values_are_those_of_the_brain_window(tmp_path):
    """Rescale as in the image, level 40, width 80, and nothing inverted."""
    document, _ = state(tmp_path, RescaleIntercept="-1024", RescaleSlope="0.5")
    assert (document.RescaleIntercept, document.RescaleSlope) == (-1024, 0.5)
    assert document.RescaleType == "HU"
    (window,) = document.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (40, 80)
    assert document.PresentationLUTShape == "IDENTITY"


def test_the_words_say_what_it_is_and_what_was_found(tmp_path):
    """On each key slice its labels, above them that a machine speaks."""
    document, instances = state(tmp_path)
    first, second = document.GraphicAnnotationSequence
    assert words(first) == [
        "AI OUTPUT - NOT FOR DIAGNOSTIC USE",
        "Preliminary. Per cent: certainty for the series",
        "any haemorrhage 97 %",
        "ichnode-ich-test 2026.1",
    ]
    assert words(second)[2:3] == ["intraparenchymal 91 %"]
    shown = [one.ReferencedImageSequence[0].ReferencedSOPInstanceUID for one in (first, second)]
    assert shown == [instances[-2].header.sop_uid, instances[0].header.sop_uid]
    (series,) = document.ReferencedSeriesSequence
    named = [one.ReferencedSOPInstanceUID for one in series.ReferencedImageSequence]
    assert named == shown
    text = first.TextObjectSequence[0]
    assert text.BoundingBoxAnnotationUnits == "DISPLAY"
    corners = [*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner]
    assert all(0 <= one <= 1 for one in corners)
    assert [layer.GraphicLayer for layer in document.GraphicLayerSequence] == ["AI_TEXT"]
    assert lines(document) == []


def test_the_layers_have_the_colours_of_the_key_image(tmp_path):
    """Yellow words and a cyan outline, as CIELab; white on a grey display."""
    document, _ = state(tmp_path, mask=drawn_mask())
    for layer, rgb in zip(document.GraphicLayerSequence, (YELLOW, CYAN), strict=True):
        value = tuple(layer.GraphicLayerRecommendedDisplayCIELabValue)
        assert value == CIELabColor.from_rgb(*rgb).value
        assert layer.GraphicLayerRecommendedDisplayGrayscaleValue == 0xFFFF


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_the_outline_lies_around_the_blood_as_it_is_stored(tmp_path, orientation):
    """In pixels of the stored image, however its rows and columns run."""
    slices = stored_series(tmp_path, orientation)
    document, instances = state(tmp_path, mask=drawn_mask(), **slices)
    (line,) = lines(document)
    stored = pixels_of(dcmread(resolve(tmp_path, instances[-2].path)))
    rows, columns = np.nonzero(stored == 68)
    assert line.min(0).tolist() == [columns.min(), rows.min()]  # outer corners, from 0
    assert line.max(0).tolist() == [columns.max() + 1, rows.max() + 1]
    graphic = document.GraphicAnnotationSequence[1].GraphicObjectSequence[0]
    assert (graphic.GraphicType, graphic.GraphicFilled) == ("POLYLINE", "N")
    assert graphic.GraphicAnnotationUnits == "PIXEL"
    assert graphic.NumberOfGraphicPoints == len(line)
    assert "Line: what the AI model draws" in words(document.GraphicAnnotationSequence[0])


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_viewer_that_turns_it_as_told_sees_it_upright(tmp_path, orientation):
    """Rotation clockwise, then the mirror; the corners are the pixels seen there after that."""
    slices = stored_series(tmp_path, orientation)
    document, instances = state(tmp_path, **slices)
    stored = pixels_of(dcmread(resolve(tmp_path, instances[-2].path)))
    turned = np.rot90(stored, -document.get("ImageRotation", 0) // 90)
    if document.get("ImageHorizontalFlip") == "Y":
        turned = turned[:, ::-1]
    assert np.array_equal(turned, pixels_of(ct_slice(3)))
    (area,) = document.DisplayedAreaSelectionSequence
    numbers = np.arange(64 * 64).reshape(64, 64)  # of the stored pixels
    shown = canonical(numbers, plane_of(orientation))
    for corner, number in (
        (area.DisplayedAreaTopLeftHandCorner, shown[0, 0]),
        (area.DisplayedAreaBottomRightHandCorner, shown[-1, -1]),
    ):
        assert numbers[corner[1] - 1, corner[0] - 1] == number


@pytest.mark.parametrize("turns", list(itertools.product((False, True), repeat=3)))
def test_every_turn_of_a_plane_has_its_rotation(turns):
    """All eight, on a picture that is not square; back as it was stored, too."""
    plane = Plane((0.0, 0.0, 1.0), *turns)
    picture = np.arange(24).reshape(6, 4)
    degrees, is_mirrored = rotation(*turns)
    turned = np.rot90(picture, -degrees // 90)
    assert np.array_equal(turned[:, ::-1] if is_mirrored else turned, canonical(picture, plane))
    assert np.array_equal(as_stored(canonical(picture, plane), plane), picture)


def test_a_slice_whose_sides_are_not_known_has_words_alone(tmp_path):
    """Coronal, or of no plane: no place is claimed and nothing is turned."""
    for orientation in ([1, 0, 0, 0, 0, -1], [1, 0, 0, 1, 0, 0]):
        document, _ = state(tmp_path, mask=drawn_mask(), ImageOrientationPatient=orientation)
        assert lines(document) == []
        assert "ImageRotation" not in document
        assert "AI OUTPUT" in words(document.GraphicAnnotationSequence[0])[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda mask: None,
        lambda mask: replace(mask, packed="AAAA"),
        lambda mask: replace(mask, rows=128),
        lambda mask: replace(mask, slice_uid="1.2.3"),
    ],
    ids=["none", "damaged", "of another size", "of another slice"],
)
def test_a_mask_that_does_not_fit_is_not_drawn(tmp_path, damage):
    """The words are written all the same."""
    instances = keep_series(tmp_path, 5)
    whole = with_volume(result([one.header.sop_uid for one in instances]), 3.0, drawn_mask())
    given = replace(whole, key_mask=damage(whole.key_mask))
    document = write(tmp_path, document_work(instances, "gsps", result=given))
    assert lines(document) == []
    assert len(document.GraphicAnnotationSequence) == 2


def test_a_mask_of_speckles_is_bounded(tmp_path):
    """So many lines and no more, each short enough for its length field."""
    speckles = np.zeros((64, 64), bool)
    speckles[::2, ::2] = True
    document, _ = state(tmp_path, mask=speckles)
    assert len(lines(document)) == MOST_LINES


def test_a_line_that_is_too_long_is_parted(tmp_path):
    """A comb of a mask on a large slice: its parts meet, and none is too long."""
    side = 256
    comb = np.zeros((side, side), bool)
    comb[-1] = comb[:, ::4] = comb[::2, 1::4] = True  # teeth with teeth of their own
    document, _ = state(tmp_path, mask=comb, side=side)
    found = lines(document)
    assert max(len(line) for line in found) <= MOST_POINTS
    longest = [line for line in found if len(line) == MOST_POINTS]
    assert longest
    assert np.array_equal(found[0][-1], found[1][0])


def test_slices_that_are_stored_otherwise_are_left_out(tmp_path):
    """One state has one rescale: of other key slices it says nothing."""
    alike = keep_series(tmp_path, 5)
    other = keep(tmp_path, part10(ct_slice(0, RescaleIntercept="-1000")))
    instances = (other, *alike[1:])
    document = write(tmp_path, document_work(instances, "gsps"))
    (annotation,) = document.GraphicAnnotationSequence
    (shown,) = annotation.ReferencedImageSequence
    assert shown.ReferencedSOPInstanceUID == alike[-2].header.sop_uid


def test_a_frame_of_a_multiframe_image_is_referred_to(tmp_path):
    """With the rescale of that frame; other frames with another rescale are left out."""
    hu = np.full((3, 32, 32), 30, np.int16)
    dataset = enhanced_ct(hu, [0, 5, 10], [-1024, -1000, -1000])
    dataset.PatientID = "SIM-1"
    image = keep(tmp_path, part10(dataset))
    uids = [f"{image.header.sop_uid}#{number}" for number in (1, 2, 3)]
    given = result(uids, presences={"subdural": Presence.PRESENT})
    document = write(tmp_path, document_work((image,), "gsps", result=given))
    (annotation,) = document.GraphicAnnotationSequence
    (shown,) = annotation.ReferencedImageSequence
    assert (shown.ReferencedSOPInstanceUID, shown.ReferencedFrameNumber) == (
        image.header.sop_uid,
        2,
    )
    assert document.RescaleIntercept == -1000


def test_pixels_of_unknown_size_have_an_aspect_instead(tmp_path):
    """One of spacing and aspect ratio must be there."""
    document, _ = state(tmp_path, PixelSpacing=None)
    (area,) = document.DisplayedAreaSelectionSequence
    assert area.PresentationPixelAspectRatio == [1, 1]
    assert "PresentationPixelSpacing" not in area


def test_a_key_slice_that_is_gone_is_refused(tmp_path):
    """A file that cannot be read is a stated refusal."""
    instances = keep_series(tmp_path, 5)
    resolve(tmp_path, instances[-2].path).unlink()
    with pytest.raises(NotAnalysable):
        ReportStage(tmp_path, ReportSettings()).handle(document_work(instances, "gsps"))


def test_the_same_work_gives_the_same_bytes(tmp_path):
    """Built twice, by another instance of the stage too, it is byte for byte one."""
    instances = keep_series(tmp_path, 5)
    whole = with_volume(result([one.header.sop_uid for one in instances]), 3.0, drawn_mask())
    work = document_work(instances, "gsps", result=whole)
    settings = ReportSettings(series_number_gsps=78)
    one, other = (ReportStage(tmp_path, settings).handle(work) for _ in range(2))
    assert one == other
    assert write(tmp_path, work, settings).SeriesNumber == 78

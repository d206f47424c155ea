"""The key image, written and re-read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.findings import Presence
from ichnode.report.caption import FAINT, PANEL_GREY, TYPE_BELOW, TYPE_BESIDE, Caption, Line
from ichnode.report.picture import AS_READ, draw, outline, upright
from ichnode.report.stage import ReportStage
from ichnode.settings import ReportSettings
from ichnode.spool import resolve
from tests.documents import document_work, keep_series, result, with_volume

CAPTION = Caption(
    title="Intracranial haemorrhage suspected",
    lines=[Line("any", 97.0, Presence.PRESENT), Line("subdural", 40.0, Presence.UNDETERMINED)],
    facts=[("Model", "a-name-without-any-space-" * 5), ("Slice", "3 of 5")],
    note="Read the original images.",
)
WORDY = replace(CAPTION, facts=[("Input", "one thing after another, " * 20)] * 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A key image of a small series, as a data set, with the series' instances."""
    spool = tmp_path_factory.mktemp("spool")
    instances = keep_series(spool, 5)
    built = ReportStage(spool, ReportSettings()).handle(document_work(instances, "sc"))
    return dcmread(resolve(spool, built.path)), instances, built


def test_it_is_a_secondary_capture_that_says_what_it_is(written):
    """Class, flags and references tell an AI output from an acquisition."""
    image, instances, built = written
    assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert image.ImageType == ["DERIVED", "SECONDARY"]
    assert image.ConversionType == "WSD"
    assert image.BurnedInAnnotation == "YES"
    assert image.Modality == "OT"
    assert image.SeriesDescription == "AI ICH key image - NOT FOR DIAGNOSIS"
    assert image.SeriesNumber == 9003
    assert image.SeriesInstanceUID == built.document_series_uid
    assert image.SeriesInstanceUID not in {one.header.series_uid for one in instances}
    assert image.PatientName == "Test^Simulated"
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == instances[-2].header.sop_uid
    assert image.ContributingEquipmentSequence[0].DeviceUID


def test_the_picture_shows_the_slice_in_the_brain_window(written):
    """Brain, simulated blood, bone and air have the greys of level 40, width 80."""
    image, _, _ = written
    pixels = image.pixel_array
    assert pixels.shape == (552, 852, 3)
    brain, blood, air = pixels[40 + 200, 250], pixels[40 + 275, 290], pixels[40 + 4, 4]
    assert abs(int(brain[0]) - round(32 / 80 * 255)) <= 1
    assert abs(int(blood[0]) - round(68 / 80 * 255)) <= 1
    assert brain[0] == brain[1] == brain[2]
    assert not air.any()


def test_the_banner_is_yellow_and_outside_of_the_slice(written):
    """The warning stands above the slice; on the brain nothing is coloured."""
    image, _, _ = written
    pixels = image.pixel_array.astype(int)
    banner = pixels[:40]
    assert ((banner[..., 0] > 200) & (banner[..., 2] < 120)).sum() > 500
    inside = pixels[40:, :512]
    assert (inside.max(axis=2) - inside.min(axis=2)).max() == 0


def test_the_same_work_gives_the_same_bytes(tmp_path):
    """Built twice a key image is byte for byte one."""
    work = document_work(keep_series(tmp_path, 5), "sc")
    stage = ReportStage(tmp_path, ReportSettings())
    assert stage.handle(work) == stage.handle(work)


def test_a_slice_that_lies_otherwise_is_turned_upright():
    """Mirrored columns and rows come out with the right on the left and the front at the top."""
    hu = np.zeros((512, 512), np.int16)
    hu[:100, :50] = 80  # at the front, on the patient's right
    seen = upright(hu, (1, 0, 0, 0, 1, 0), (0.5, 0.5))
    assert seen[0, 0] == 255
    assert np.array_equal(upright(hu[::-1, ::-1], (-1, 0, 0, 0, -1, 0), (0.5, 0.5)), seen)
    assert np.array_equal(upright(hu[::-1], (1, 0, 0, 0, -1, 0), None), seen)


def test_pixels_that_are_not_square_are_made_so():
    """Twice the spacing between rows doubles the height; a small slice is enlarged."""
    assert upright(np.zeros((256, 512), np.int16), None, (1.0, 0.5)).shape == (512, 512)
    assert upright(np.zeros((64, 64), np.int16), None, None).shape == (512, 512)


def test_long_words_are_broken_and_stay_inside_the_picture():
    """A model's name without a space does not run out of the panel."""
    picture = draw(np.zeros((512, 512), np.uint8), CAPTION, sides=None)
    assert picture.shape == (552, 852, 3)
    margin = picture[40:, -12:]
    assert (margin == margin[0, 0]).all()


def test_words_stand_below_two_slices_and_nothing_is_cut_off():
    """The picture grows with what there is to say, beside one slice and below two."""
    blank, mask = np.zeros((512, 512), np.uint8), np.zeros((512, 512), bool)
    for drawn in ({}, {"mask": mask}):
        few = draw(blank, CAPTION, sides=None, **drawn)
        many = draw(blank, WORDY, sides=None, **drawn)
        assert many.shape[0] > few.shape[0] + 100
        assert many.shape[1] == few.shape[1] == (1024 if drawn else 852)
        assert (many[-14:, -12:] == many[-1, -1]).all()
        assert np.array_equal(many[40:552, :512], few[40:552, :512])


def test_letters_can_be_read_where_the_picture_is_shown_small():
    """On 512 pixels across the smallest letters are still eight high, and what is faint is seen."""
    for across, sizes in ((852, TYPE_BESIDE), (1024, TYPE_BELOW)):
        assert min(sizes.title, sizes.label, sizes.fact, sizes.note) * 512 / across >= 8
    contrast = (luminance(FAINT) + 0.05) / (luminance(PANEL_GREY) + 0.05)
    assert contrast > 4.5  # WCAG 2.1, 1.4.3


def luminance(colour):
    """Of an sRGB colour, relative to white (WCAG 2.1)."""
    part = np.array(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_letters_for_the_sides_only_where_the_sides_are_known():
    """Without an orientation no letter claims which side is which."""
    blank = np.zeros((512, 512), np.uint8)
    plain = draw(blank, CAPTION, sides=None)[40:, :512]
    lettered = draw(blank, CAPTION, sides=AS_READ)[40:, :512]
    near, middle, far = slice(0, 30), slice(240, 272), slice(482, 512)
    for edge in ((middle, near), (middle, far), (near, middle), (far, middle)):
        assert not plain[edge].any()
        assert lettered[edge].any()


def outlined(spool, **changes):
    """The picture of a key image whose model drew a square on the key slice."""
    instances = keep_series(spool, 5)
    mask = np.zeros((64, 64), bool)
    mask[32:38, 32:41] = True  # each pixel is shown as 8 x 8
    whole = with_volume(result([one.header.sop_uid for one in instances]), 12.34, mask)
    work = document_work(instances, "sc", result=replace(whole, **changes))
    built = ReportStage(spool, ReportSettings()).handle(work)
    return dcmread(resolve(spool, built.path)).pixel_array.astype(int)


def test_a_mask_is_outlined_beside_the_plain_slice(tmp_path):
    """On the left the slice as ever, on the right once more with a line around the blood."""
    pixels = outlined(tmp_path)
    assert pixels.shape[1:] == (2 * 512, 3)
    plain, marked = pixels[40:552, :512], pixels[40:552, 512:]
    coloured = marked.max(axis=2) - marked.min(axis=2) > 0
    assert (plain.max(axis=2) - plain.min(axis=2)).max() == 0
    line = coloured[:480]  # below are words
    assert np.array_equal(plain[:480, 1:][~line[:, 1:]], marked[:480, 1:][~line[:, 1:]])
    rows, columns = np.nonzero(line)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (255, 304, 255, 328)
    assert not line[260:300, 260:324].any()  # the blood itself stays as it is


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
    """The key image is made all the same, as it is without one."""
    instances = keep_series(tmp_path, 5)
    mask = np.ones((64, 64), bool)
    whole = with_volume(result([one.header.sop_uid for one in instances]), 3.0, mask)
    pixels = outlined(tmp_path, key_mask=damage(whole.key_mask))
    assert pixels.shape == (552, 852, 3)


def test_an_outline_is_as_large_as_the_picture():
    """A small slice is enlarged, and so is what was drawn on it."""
    mask = np.zeros((64, 64), bool)
    mask[16:32, 16:32] = True
    rows, columns = np.nonzero(outline(mask, (512, 512)))
    assert 120 < rows.min() < 132
    assert 252 < rows.max() < 264
    assert (columns.min(), columns.max()) == (rows.min(), rows.max())


def test_a_key_slice_that_cannot_be_decoded_is_refused(tmp_path):
    """Truncated pixels are a stated refusal."""
    instances = keep_series(tmp_path, 5)
    path = resolve(tmp_path, instances[-2].path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(NotAnalysable):
        ReportStage(tmp_path, ReportSettings()).handle(document_work(instances, "sc"))


@pytest.mark.real
def test_a_real_slice_makes_a_key_image(tmp_path, real_data):
    """A real, tilted head CT with padding comes out upright in its own size."""
    from tests.documents import keep

    folder = real_data / "head_ct_ge"
    files = sorted(folder.glob("*.dcm"))[:6]
    instances = tuple(keep(tmp_path, path.read_bytes()) for path in files)
    built = ReportStage(tmp_path, ReportSettings()).handle(document_work(instances, "sc"))
    pixels = dcmread(resolve(tmp_path, built.path)).pixel_array
    assert pixels.shape == (552, 852, 3)
    assert pixels[40:, :512].std() > 30

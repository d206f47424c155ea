"""Files of one series become one volume, or a stated reason: geometry, repeats, gaps, identity."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.selection import suitability
from ichnode.imaging.volume import CtVolume, check_variants, read_series, same_picture
from tests import imaging_scans as scans


@pytest.fixture(scope="module")
def head():
    """A simulated head of 28 slices, 5 mm apart."""
    return scans.head(scans.positions())


def refusal(instances, *, complete=True) -> NotAnalysable:
    with pytest.raises(NotAnalysable) as caught:
        read_series(instances, complete=complete)
    return caught.value


def test_a_head_is_read_from_the_feet_upwards_in_hounsfield_units(tmp_path, head):
    """Whatever the order of arrival, slices come out upwards and in the values that went in."""
    series = scans.write_series(tmp_path, head, scans.positions())
    random.Random(3).shuffle(series)
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert volume.spacing_mm == (5.0, 2.0, 2.0)
    assert volume.slice_uids == tuple(f"{scans.SERIES_UID}.{n}" for n in range(1, 29))
    assert volume.gaps == 0
    assert volume.warnings == ()
    assert volume.tilt_deg == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        ((-1.0, 0, 0, 0, 1, 0), lambda image: image[:, ::-1]),
        ((1.0, 0, 0, 0, -1, 0), lambda image: image[::-1]),
        ((-1.0, 0, 0, 0, -1, 0), lambda image: image[::-1, ::-1]),
        ((0.0, 1, 0, 1, 0, 0), lambda image: image.T),
        ((0.0, -1, 0, 1, 0, 0), lambda image: image[::-1].T),
    ],
    ids=["left to right", "prone", "turned round", "transposed", "rotated"],
)
def test_any_axial_orientation_is_displayed_canonically(tmp_path, head, orientation, turn):
    """However the rows and columns were laid, row 0 ends up anterior and column 0 on the right."""
    marked = head.copy()
    marked[:, 30:34, 60:62] = 60  # anterior, a little to the right
    laid = np.stack([np.ascontiguousarray(turn(image)) for image in marked])
    series = scans.write_series(
        tmp_path, laid, scans.positions(), {"ImageOrientationPatient": list(orientation)}
    )
    np.testing.assert_array_equal(read_series(series, complete=True).hu, marked)


def test_transposed_slices_swap_their_spacing(tmp_path, head):
    """The spacing between rows follows the rows when the axes are swapped."""
    tags = {"ImageOrientationPatient": [0.0, 1, 0, 1, 0, 0], "PixelSpacing": [2.0, 1.9]}
    series = scans.write_series(tmp_path, head.transpose(0, 2, 1), scans.positions(), tags)
    assert read_series(series, complete=True).spacing_mm == (5.0, 1.9, 2.0)


def test_tilt_is_measured_and_spacing_is_along_the_normal(tmp_path, head):
    """With a tilted gantry the table goes further than the slices come apart."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    tags = {"ImageOrientationPatient": [1.0, 0, 0, 0, round(c, 7), round(-s, 7)]}
    table = [5.0 / c * n for n in range(28)]
    volume = read_series(scans.write_series(tmp_path, head, table, tags), complete=True)
    assert volume.tilt_deg == pytest.approx(20, abs=0.01)
    assert volume.spacing_mm[0] == pytest.approx(5.0, abs=1e-3)


def test_a_change_of_spacing_is_no_gap(tmp_path):
    """Thin slices through the skull base and thick ones above are one ordinary scan."""
    places = [2.5 * n for n in range(16)] + [42.5 + 5.0 * n for n in range(18)]
    series = scans.write_series(tmp_path, scans.head(places), places)
    for complete in (False, True):
        assert read_series(series, complete=complete).gaps == 0


def test_a_missing_slice_waits_and_is_then_a_stated_gap(tmp_path, head):
    """A hole makes an unfinished series wait and a complete one carry a warning."""
    series = scans.write_series(tmp_path, head, scans.positions())
    del series[12]
    waiting = refusal(series, complete=False)
    assert waiting.may_change
    volume = read_series(series, complete=True)
    assert volume.gaps == 1
    assert "1 gaps" in volume.warnings


def test_every_other_slice_waits_for_the_rest(tmp_path, head):
    """Evenly spaced but further apart than the slices are thick: the others may be on their way."""
    series = scans.write_series(tmp_path, head, scans.positions())[::2]
    assert refusal(series, complete=False).may_change


def test_a_series_with_most_of_it_missing_is_refused(tmp_path, head):
    """Two ends with nothing between them are no head, complete or not."""
    series = scans.write_series(tmp_path, head, scans.positions())
    refused = refusal(series[:9] + series[19:])
    assert refused.reason is Reason.PARTIAL_HEAD


@pytest.mark.parametrize("complete", [False, True])
def test_too_few_slices_may_change_only_while_slices_may_come(tmp_path, head, complete):
    """Seven slices refuse; for good when there will be no more."""
    series = scans.write_series(tmp_path, head, scans.positions())[10:17]
    refused = refusal(series, complete=complete)
    assert refused.reason is Reason.TOO_FEW_SLICES
    assert refused.may_change is not complete


def test_the_vertex_alone_is_too_little_brain(tmp_path):
    """Slices that have covered only the top of the brain wait for the rest."""
    places = [100.0 + 5.0 * n for n in range(9)]
    series = scans.write_series(tmp_path, scans.head(places), places)
    refused = refusal(series, complete=False)
    assert refused.reason is Reason.PARTIAL_HEAD
    assert refused.may_change


def test_slices_too_far_apart_are_refused(tmp_path):
    """Twelve millimetres between slices are no head CT."""
    places = [12.0 * n for n in range(12)]
    series = scans.write_series(tmp_path, scans.head(places), places)
    assert refusal(series).reason is Reason.SLICE_SPACING


@pytest.mark.parametrize(
    "tags", [{"PatientID": "SIM-2"}, {"StudyInstanceUID": scans.STUDY_UID + ".99"}]
)
def test_one_stranger_makes_the_identity_conflicting(tmp_path, head, tags):
    """A single slice of another patient or study refuses the whole series."""
    series = scans.write_series(tmp_path, head, scans.positions())
    series[5] = scans.save(scans.ct_image(head[5], 25.0, 6, tags), tmp_path / "stranger.dcm")
    assert refusal(series).reason is Reason.IDENTITY


def test_a_header_variant_is_no_alarm(tmp_path, head):
    """The same picture again, header coerced and recompressed by an archive, is one slice."""
    series = scans.write_series(tmp_path, head, scans.positions())
    variant = dcmread(series[8][1])
    variant.PatientName, variant.AccessionNumber = "SIMULATED^HEAD", "42"
    variant.compress(RLELossless, generate_instance_uid=False)
    series.append(scans.save(variant, tmp_path / "variant.dcm"))
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert same_picture(series[8][1], tmp_path / "variant.dcm")


def test_other_pixels_under_one_uid_need_a_person(tmp_path, head):
    """One SOP Instance UID with two different pictures is never analysed."""
    series = scans.write_series(tmp_path, head, scans.positions())
    changed = head[8].copy()
    changed[64, 64] += 1
    series.append(scans.save(scans.ct_image(changed, 40.0, 9), tmp_path / "other.dcm"))
    assert refusal(series).reason is Reason.CONFLICTING_PIXELS


def test_a_moved_picture_is_not_the_same(tmp_path, head):
    """Equal pixels at another place are another picture, and so is what cannot be read."""
    _, a = scans.save(scans.ct_image(head[8], 40.0, 9), tmp_path / "a.dcm")
    _, b = scans.save(scans.ct_image(head[8], 41.0, 9), tmp_path / "b.dcm")
    (tmp_path / "c.dcm").write_bytes(a.read_bytes()[:-100])
    assert not same_picture(a, b)
    assert not same_picture(a, tmp_path / "c.dcm")
    assert not same_picture(a, tmp_path / "absent.dcm")
    assert same_picture(a, a)


def test_a_repeated_acquisition_is_read_once_and_never_interleaved(tmp_path, head):
    """After a rescan of part of the head the longer acquisition is read, whole."""
    series = scans.write_series(tmp_path / "a", head, scans.positions())
    again = scans.head(scans.positions(), seed=8)[10:18]
    series += scans.write_series(
        tmp_path / "b", again, scans.positions()[10:18], {"AcquisitionNumber": 2}, first_number=101
    )
    random.Random(1).shuffle(series)
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert "8 repeated slices left out" in volume.warnings


def test_of_two_whole_acquisitions_the_later_is_read(tmp_path, head):
    """When the whole head was scanned again, it was for a reason."""
    again = scans.head(scans.positions(), seed=8)
    series = scans.write_series(tmp_path / "a", head, scans.positions())
    series += scans.write_series(
        tmp_path / "b", again, scans.positions(), {"AcquisitionNumber": 2}, first_number=101
    )
    np.testing.assert_array_equal(read_series(series, complete=True).hu, again)


def test_shifted_acquisitions_are_not_interleaved(tmp_path):
    """Two acquisitions half a slice apart share no place and are still two."""
    shifted = [z + 2.5 for z in scans.positions()]
    series = scans.write_series(tmp_path / "a", scans.head(scans.positions()), scans.positions())
    series += scans.write_series(
        tmp_path / "b", scans.head(shifted), shifted, {"AcquisitionNumber": 2}, first_number=101
    )
    volume = read_series(series, complete=True)
    assert volume.spacing_mm[0] == 5.0
    assert len({int(uid.rpartition(".")[2]) // 100 for uid in volume.slice_uids}) == 1


def test_a_scan_in_two_goes_is_joined_at_its_seam(tmp_path, head):
    """Two acquisitions that share one slice at the seam are one head."""
    series = scans.write_series(tmp_path / "a", head[:15], scans.positions()[:15])
    series += scans.write_series(
        tmp_path / "b", head[14:], scans.positions()[14:], {"AcquisitionNumber": 2},
        first_number=101,
    )  # fmt: skip
    np.testing.assert_array_equal(read_series(series, complete=True).hu, head)


def test_repeats_that_nothing_tells_apart_are_refused(tmp_path, head):
    """Two images of every place without a word on which belongs to which are not one stack."""
    series = []
    for n, (image, z) in enumerate(zip(head, scans.positions(), strict=True)):
        for twin in (0, 1):
            number = 2 * n + twin + 1
            tags = {"InstanceNumber": number}
            series.append(
                scans.save(scans.ct_image(image, z, number, tags), tmp_path / f"{number}.dcm")
            )
    assert refusal(series).reason is Reason.MIXED_GEOMETRY


def test_three_images_of_every_place_are_a_perfusion_scan(tmp_path, head):
    """Time points are recognised by geometry alone, even in acquisitions of their own."""
    series = []
    for time in range(3):
        series += scans.write_series(
            tmp_path / str(time), head[8:16], scans.positions()[8:16],
            {"AcquisitionNumber": time + 1, "SeriesDescription": ""}, first_number=100 * time + 1,
        )  # fmt: skip
    assert refusal(series).reason is Reason.PERFUSION


def test_a_soft_and_a_bone_reconstruction_in_one_series_are_told_apart(tmp_path, head):
    """Only the soft reconstruction is read where a series holds both."""
    sharp = scans.head(scans.positions(), noise_hu=25, seed=8)
    series = scans.write_series(tmp_path / "a", head, scans.positions())
    series += scans.write_series(
        tmp_path / "b", sharp, scans.positions(), {"ConvolutionKernel": "H70h"}, first_number=101
    )
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert "28 instances of another kind left out" in volume.warnings


def test_a_localizer_inside_an_axial_series_is_dropped(tmp_path, head):
    """A scout among the slices does not make a scout of the series."""
    series = scans.write_series(tmp_path, head, scans.positions())
    tags = {
        "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        "ImageOrientationPatient": [0.0, 1, 0, 0, 0, -1],
    }
    series.append(scans.save(scans.ct_image(head[14], 0.0, 99, tags), tmp_path / "scout.dcm"))
    np.testing.assert_array_equal(read_series(series, complete=True).hu, head)


def test_sagittal_slices_in_an_axial_series_are_left_out(tmp_path, head):
    """Original slices of another plane are dropped with a word, not mixed in."""
    series = scans.write_series(tmp_path, head, scans.positions())
    for n in range(4):
        ds = scans.ct_image(head[14], 10.0 * n, 200 + n)
        ds.ImageOrientationPatient = [0.0, 1, 0, 0, 0, -1]
        series.append(scans.save(ds, tmp_path / f"sagittal{n}.dcm"))
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert len(volume.warnings) == 1


def test_two_fields_of_view_are_not_one_stack(tmp_path, head):
    """Where one field of view shows what the other does not, neither is the head."""
    series = scans.write_series(tmp_path / "a", head[:16], scans.positions()[:16])
    series += scans.write_series(
        tmp_path / "b", head[16:], scans.positions()[16:], {"PixelSpacing": [1.8, 1.8]},
        first_number=101,
    )  # fmt: skip
    assert refusal(series).reason is Reason.MIXED_GEOMETRY
    assert refusal(series, complete=False).may_change


def test_a_few_repeats_in_another_field_of_view_are_left_out(tmp_path, head):
    """Slices of another field of view inside the stack take nothing away from it."""
    series = scans.write_series(tmp_path / "a", head, scans.positions())
    series += scans.write_series(
        tmp_path / "b", head[10:13], scans.positions()[10:13], {"PixelSpacing": [1.0, 1.0]},
        first_number=101,
    )  # fmt: skip
    volume = read_series(series, complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert volume.warnings == ("3 slices of another geometry left out",)


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_slices_without_a_place_are_refused(tmp_path, head, missing):
    """Instance numbers are no substitute for positions."""
    series = scans.write_series(tmp_path, head, scans.positions(), {missing: None})
    assert refusal(series).reason is Reason.NO_GEOMETRY


def test_one_unreadable_slice_is_stated_and_many_refuse(tmp_path, head):
    """A truncated file costs its slice; a series of them is not analysed."""
    series = scans.write_series(tmp_path, head, scans.positions())
    for index in (14, 15, 16):
        path = series[index][1]
        path.write_bytes(path.read_bytes()[:-1000])
        if index == 14:
            volume = read_series(series, complete=True)
            assert "1 slices unreadable" in volume.warnings
            assert volume.gaps == 1
    assert refusal(series).reason is Reason.UNREADABLE


def test_an_enhanced_object_is_read_frame_by_frame(tmp_path, head):
    """One multi-frame object, its rescale and place per frame and its frames in any order."""
    order = random.Random(5).sample(range(28), 28)
    places = [scans.positions()[n] for n in order]
    ds = scans.enhanced_ct(head[order], places, [-1024 - 10 * n for n in range(28)])
    header, path = scans.save(ds, tmp_path / "enhanced.dcm")
    assert header.frames == 28
    assert header.position_mm == (-127.0, -127.0, places[0])
    assert header.pixel_spacing_mm == (2.0, 2.0)
    volume = read_series([(header, path)], complete=True)
    np.testing.assert_array_equal(volume.hu, head)
    assert volume.slice_uids[0] == f"{header.sop_uid}#{order.index(0) + 1}"
    assert set(volume.sop_uids) == {header.sop_uid}


def test_implicit_vr_files_are_read_alike(tmp_path, head):
    """The transfer syntax of the files does not show in the volume."""
    series = []
    for n, (image, z) in enumerate(zip(head, scans.positions(), strict=True), start=1):
        ds = scans.ct_image(image, z, n)
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        series.append(scans.save(ds, tmp_path / f"{n}.dcm"))
    np.testing.assert_array_equal(read_series(series, complete=True).hu, head)


def test_a_vanished_file_is_unreadable_not_a_crash(tmp_path, head):
    """A file that is gone is one of the reasons, like any other."""
    series = scans.write_series(tmp_path, head, scans.positions())
    gone = [(header, Path(str(path) + ".gone")) for header, path in series]
    assert refusal(gone).reason is Reason.UNREADABLE


def test_the_score_prefers_the_plain_soft_thick_series(tmp_path, head):
    """The score explains itself and ranks a thick soft series above a thin unknown one."""
    series = scans.write_series(tmp_path / "a", head, scans.positions())
    tags = {"ConvolutionKernel": "X1", "SliceThickness": "1", "SeriesDescription": "bone thin"}
    other = scans.write_series(tmp_path / "b", head, scans.positions(), tags, first_number=101)
    del other[12]
    good, said = suitability([h for h, _ in series], read_series(series, complete=True))
    poor, _ = suitability([h for h, _ in other], read_series(other, complete=True))
    assert good > poor
    assert "+30 soft kernel" in said
    assert "+20 5 mm slices" in said


@pytest.mark.parametrize(
    "changed",
    [
        {"hu": np.zeros((3, 4, 4), dtype=np.float32)},
        {"hu": np.zeros((4, 4), dtype=np.int16)},
        {"positions_mm": np.array([0.0, 2.0, 1.0])},
        {"slice_uids": ("1.1", "1.2")},
        {"slice_uids": ("1.1", "1.2", "1.2")},
        {"spacing_mm": (1.0, 0.0, 1.0)},
    ],
)
def test_a_volume_that_does_not_hold_together_cannot_be_made(changed):
    """The constructor checks shapes, order, UIDs and spacing."""
    sound = {
        "hu": np.zeros((3, 4, 4), dtype=np.int16),
        "spacing_mm": (1.0, 1.0, 1.0),
        "positions_mm": np.array([0.0, 1.0, 2.0]),
        "slice_uids": ("1.1", "1.2", "1.3"),
    }
    CtVolume(**sound)
    with pytest.raises(ValueError, match=r"hu|position|slice|spacing"):
        CtVolume(**(sound | changed))


def variants_of(series, folder, **changes):
    """The same pictures with other headers, as an archive forwards them."""
    folder.mkdir()
    made = []
    for _, path in series:
        variant = dcmread(path)
        variant.AccessionNumber = "42"
        for keyword, value in changes.items():
            setattr(variant, keyword, value)
        made.append(scans.save(variant, folder / path.name))
    return made


def test_header_variants_are_recognised_beside_what_was_read(tmp_path, head):
    """Coerced headers and an issuer that an archive added are nothing new."""
    series = scans.write_series(tmp_path / "scanner", head, scans.positions())
    further = variants_of(series, tmp_path / "archive", IssuerOfPatientID="HOSPITAL")
    assert check_variants(series, further) is None
    assert len(read_series(series + further, complete=True).hu) == len(series)


def test_variants_with_other_pixels_or_of_somebody_else_are_refused(tmp_path, head):
    """What was said before cannot stand for them."""
    series = scans.write_series(tmp_path / "scanner", head, scans.positions())
    changed = head.copy()
    changed[8, 64, 64] += 1
    other = scans.write_series(tmp_path / "other", changed, scans.positions())
    stranger = variants_of(series, tmp_path / "stranger", PatientID="SIM-2")
    for further, reason in (
        (other, Reason.CONFLICTING_PIXELS),
        (stranger, Reason.IDENTITY),
    ):
        with pytest.raises(NotAnalysable) as caught:
            check_variants(series, further)
        assert caught.value.reason is reason


def test_what_was_not_seen_is_measured(tmp_path, head):
    """The share of the extent in gaps, and the slices that cannot be decoded."""
    series = scans.write_series(tmp_path, head, scans.positions())
    assert read_series(series, complete=True).missing == 0
    volume = read_series(series[:8] + series[12:], complete=True)
    assert volume.missing == pytest.approx(20 / 135)
    series[20][1].write_bytes(series[20][1].read_bytes()[:-1000])
    assert read_series(series, complete=True).unreadable == 1


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("ends", [(0,), (27,), (0, 27)], ids=["bottom", "top", "both"])
def test_slices_without_a_place_at_the_ends_are_counted(tmp_path, head, ends, missing):
    """They leave no gap behind; one that cannot be decoded beside them is counted as well."""
    series = scans.write_series(tmp_path / "whole", head, scans.positions())
    for n in ends:
        ds = scans.ct_image(head[n], scans.positions()[n], n + 1)
        delattr(ds, missing)
        series[n] = scans.save(ds, tmp_path / f"{n}.dcm")
    volume = read_series(series, complete=True)
    assert (volume.unplaced, volume.unreadable) == (len(ends), 0)
    assert (volume.gaps, volume.missing) == (0, 0.0)
    assert f"{len(ends)} slices without geometry left out" in volume.warnings
    series[14][1].write_bytes(series[14][1].read_bytes()[:-1000])
    volume = read_series(series, complete=True)
    assert (volume.unplaced, volume.unreadable) == (len(ends), 1)

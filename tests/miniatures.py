"""Public datasets in miniature: their folders, file names, headers and CSVs, and their traps.

Every image is a simulated head; no scan of a person is in them. What is written is returned as
`Truth`, in the canonical display and from the feet to the head, for tests to compare.
"""

from __future__ import annotations

import csv
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom import Identity, SimulatedHead, simulate_head, write_series
from ichnode.phantom.dicom import planes_of
from ichnode.phantom.studies import DEMONSTRATION_SEEDS

SIZE_PX, SLICES, SPACING_MM = 64, 12, (12.0, 3.75, 3.75)
FIRST_SEED = DEMONSTRATION_SEEDS.start + 50_000
SUBTYPES = LABELS[1:]


@dataclass(frozen=True, slots=True)
class Truth:
    """What one written series holds.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
    labels : ndarray, bool, (z, label)
    keys : tuple of str
        What the dataset calls each slice, from the feet to the head.
    mask : ndarray, uint8, (z, y, x), optional
        Index of the label at each voxel; 0 where there is no blood.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    labels: npt.NDArray[np.bool_] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    patient: str = ""
    mask: npt.NDArray[np.uint8] | None = field(default=None, repr=False)


def head(
    number: int, *bleeds: Label, slices: int = SLICES, size_px: int = SIZE_PX
) -> SimulatedHead:
    """Simulate a small head with these bleeds, and no others, all of one grid."""
    return simulate_head(
        FIRST_SEED + number,
        bleeds=bleeds,
        slices=slices,
        size_px=size_px,
        spacing_mm=(SLICES * SPACING_MM[0] / slices, *(SIZE_PX * SPACING_MM[1] / size_px,) * 2),
        least_bleed_ml=25.0 if bleeds else 0.0,
    )


def write_rsna(
    folder: Path, *, images: str = "stage_2_train", wrapped: bool = True
) -> dict[str, Truth]:
    """Write RSNA 2019: three series of two patients, files in no order, rows twice, one damaged.

    The second series is stored without a sign, wrapped into 12 bits. The last slice of the third
    has too little pixel data. Returns the truth by Series Instance UID.
    """
    heads = (head(1, "subdural", "subarachnoid"), head(2), head(3, "epidural"))
    patients = ("ID_0a1b2c3d", "ID_0a1b2c3d", "ID_ffee0011")
    truths: dict[str, Truth] = {}
    for number, (one, patient) in enumerate(zip(heads, patients, strict=True)):
        names = tuple(_random_names(len(one.hu), seed=number))
        series = f"ID_5e71e5000{number}"
        truths[series] = Truth(one.hu, one.labels, names, patient)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Invalid value for VR UI")  # so they were published
            for z, name in enumerate(names):
                ds = _rsna_image(one, z, name, patient, series, wrapped=wrapped and number == 1)
                if number == 2 and z == len(names) - 1:
                    ds.PixelData = ds.PixelData[:-400]
                _save_bare(ds, folder / images / f"{name}.dcm")
    rows = [row for truth in truths.values() for row in rsna_rows(truth)]
    random.Random(0).shuffle(rows)
    write_csv(folder / "stage_2_train.csv", ("ID", "Label"), [*rows, *rows[:6]])
    write_csv(folder / "stage_2_sample_submission.csv", ("ID", "Label"), [("ID_0000_any", "0.5")])
    return truths


def rsna_rows(truth: Truth) -> list[tuple[str, int]]:
    """The rows of ``stage_2_train.csv`` about one series."""
    order = (*SUBTYPES, "any")
    return [
        (f"{key}_{label}", int(truth.labels[z, LABELS.index(label)]))
        for z, key in enumerate(truth.keys)
        for label in order
    ]


def write_cq500(folder: Path) -> dict[str, dict[str, Truth]]:
    """Write CQ500: three studies of four, several series each; truth by study and series folder.

    Study 0 has thick and thin plain series and one with contrast medium; study 3 was chronic, and
    its readers disagree on the kind; study 7 has contrast series alone; study 9 is not unpacked.
    """
    truths: dict[str, dict[str, Truth]] = {}
    thick, thin = "CT Plain", "CT PLAIN THIN"
    for number, series in (
        (
            0,
            {
                thick: head(11, "subdural", slices=24),
                thin: head(11, "subdural", slices=72),
                "CT 4cc sec 150cc D3D on-2": head(12, slices=24),
            },
        ),
        (3, {thick: head(13, slices=24)}),
        (7, {"CT POST CONTRAST": head(14)}),
    ):
        wrapper = f"qct0{number % 3}/CQ500CT{number} CQ500CT{number}/Unknown Study"
        for at, (name, one) in enumerate(series.items()):
            _write_cq500_series(one, folder / wrapper / name, number, at)
        truths[f"CQ500-CT-{number}"] = {
            name: Truth(one.hu, one.labels, ()) for name, one in series.items()
        }
    write_reads(
        folder / "reads.csv",
        {
            "CQ500-CT-0": ({"ICH", "SDH"}, {"ICH", "SDH"}, {"ICH", "SDH", "SAH"}),
            "CQ500-CT-3": ({"ICH", "IPH", "ChronicBleed"}, {"ICH", "SDH", "ChronicBleed"}, set()),
            "CQ500-CT-7": (set(), set(), {"ICH", "IPH"}),
            "CQ500-CT-9": (set(), set(), set()),
        },
    )
    return truths


FINDINGS = ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH", "BleedLocation-Left", "BleedLocation-Right",
            "ChronicBleed", "Fracture", "CalvarialFracture", "OtherFracture", "MassEffect",
            "MidlineShift")  # fmt: skip


def write_reads(path: Path, readings: Mapping[str, Sequence[set[str]]]) -> None:
    """Write ``reads.csv``: what each of three readers saw in each study."""
    columns = [f"R{reader}:{finding}" for reader in (1, 2, 3) for finding in FINDINGS]
    rows = [
        (name, "B1", *(int(finding in seen) for seen in readers for finding in FINDINGS))
        for name, readers in readings.items()
    ]
    write_csv(path, ("name", "Category", *columns), rows)


def write_ct_ich(folder: Path) -> dict[str, Truth]:
    """Write CT-ICH: four scans, whose files run in other directions; truth by patient number.

    049 has one kind of blood and a mask; 050 two kinds in one slice; 051 none, and a mask without
    anything; 052 has no mask and one row that contradicts itself. 053 has rows and no file.
    """
    heads = {
        "049": head(21, "intraparenchymal"),
        "050": head(22, "subdural", "intraparenchymal"),
        "051": head(23),
        "052": head(24, "epidural"),
    }
    rows: list[tuple[int, ...]] = []
    truths = {}
    for job, codes in zip(heads, ("LPS", "RAS", "LPI", "RPS"), strict=True):
        one = heads[job]
        slices = len(one.hu)
        write_nifti(folder / "ct_scans" / f"{job}.nii", one.hu, codes)
        if job != "052":
            write_nifti(folder / "masks" / f"{job}.nii", 255 * (one.mask > 0), codes, lost=True)
        upwards = codes[2] == "S"
        numbers = [z + 1 if upwards else slices - z for z in range(slices)]
        rows += [_ct_ich_row(int(job), n, one.labels[z]) for z, n in enumerate(numbers)]
        truths[job] = Truth(one.hu, one.labels, tuple(f"{job}-{n}" for n in numbers), "", one.mask)
    first = next(i for i, row in enumerate(rows) if row[0] == 52 and row[1] == 1)
    rows[first] = (52, 1, 0, 0, 0, 0, 1, 1, 0)
    rows += [_ct_ich_row(53, 1, np.zeros(len(LABELS), bool))]
    random.Random(1).shuffle(rows)
    write_csv(
        folder / "hemorrhage_diagnosis_raw_ct.csv",
        ("PatientNumber", "SliceNumber", "Intraventricular", "Intraparenchymal", "Subarachnoid",
         "Epidural", "Subdural", "No_Hemorrhage", "Fracture_Yes_No"),
        rows,
    )  # fmt: skip
    write_csv(
        folder / "Patient_demographics.csv",
        ("Patient Number", "Age\n(years)", "Gender",
         "Hemorrhage type based on the radiologists diagnosis ", "", "", "", "",
         "Fracture (yes 1/no 0)", "Note1"),
        [("", "", "", "Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural",
          "Subdural", "", ""),
         (49, 62, "Male", "", 1, "", "", "", "", ""), (50, 0.5, "Female", "", 1, "", "", 1, 1, "")],
    )  # fmt: skip
    return truths


def _ct_ich_row(patient: int, number: int, labels: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    there = dict(zip(LABELS, labels.astype(int).tolist(), strict=True))
    order = ("intraventricular", "intraparenchymal", "subarachnoid", "epidural", "subdural")
    return (patient, number, *(there[name] for name in order), 1 - there["any"], 0)


def write_bhsd(
    folder: Path, *, trained: str = "imagesTr", masks: str = "labelsTr"
) -> dict[str, Truth]:
    """Write BHSD: three scans of two patients of `write_rsna`; truth by file name without ending.

    The last has no mask.
    """
    jobs = ("ID_0a1b2c3d_ID_5e71e50000", "ID_ffee0011_ID_5e71e50002", "ID_0a1b2c3d_ID_5e71e50001")
    heads = (head(1, "subdural", "subarachnoid"), head(3, "epidural"), head(2))
    truths = {}
    for job, one in zip(jobs, heads, strict=True):
        write_nifti(folder / trained / f"{job}.nii.gz", one.hu, "LAS")
        if job != jobs[-1]:
            write_nifti(folder / masks / f"{job}.nii.gz", one.mask, "LAS")
        series = job.split("_", 2)[2]
        truths[job] = Truth(
            one.hu,
            shown(one.mask),
            tuple(f"{series}-{z + 1}" for z in range(len(one.hu))),
            job[:11],
            one.mask,
        )
    (folder / "dataset.json").write_text('{"labels": {"0": "background", "1": "EDH"}}')
    return truths


def shown(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The labels (z, label) of what a mask (z, y, x) shows at all."""
    kinds = [(mask == index).any(axis=(1, 2)) for index in range(1, len(LABELS))]
    return np.stack([np.any(kinds, axis=0), *kinds], axis=1)


def write_kitamura(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Write Kitamura's set: four pictures of several sizes and forms, the last of them damaged.

    Returns the grey values by number.
    """
    one = head(31, "intraparenchymal")
    level = int(one.labels[:, 0].argmax())
    pictures = {}
    (folder / "head_ct/head_ct").mkdir(parents=True)
    for number, (z, form, cropped) in enumerate(
        ((level, "L", 64), (0, "RGB", 64), (level + 1, "RGBA", 50), (1, "L", 64))
    ):
        grey = np.clip(one.hu[z] / 80 * 255, 0, 255).round().astype(np.uint8)[:cropped]
        path = folder / "head_ct/head_ct" / f"{number:03d}.png"
        Image.fromarray(grey).convert(form).save(path)
        pictures[f"{number:03d}"] = grey
    cut_short(folder / "head_ct/head_ct/003.png", 60)
    rows = [(number, int(number in (0, 2))) for number in range(4)]
    (folder / "labels.csv").write_text(
        "id, hemorrhage\n" + "".join(f"{number},{there}\n" for number, there in rows)
    )
    return pictures


def write_nifti(path: Path, canonical: npt.NDArray[Any], codes: str, *, lost: bool = False) -> None:
    """Write a volume (z, y, x) in the canonical display with axes that run as `codes` says.

    Parameters
    ----------
    codes : str
        Where the columns, rows and slices of the file run to, such as "LPS".
    lost : bool
        Write the values that way, but an orientation that says nothing of it.
    """
    mm = (SPACING_MM[2], SPACING_MM[1], SPACING_MM[0] * SLICES / len(canonical))
    values = canonical.transpose(2, 1, 0)  # to the left, to the back, upwards
    affine = np.diag([*mm, 1.0])
    for axis, (code, own) in enumerate(zip(codes, "LPS", strict=True)):
        if code != own:
            values = np.flip(values, axis)
        towards_ras = code in "RAS"
        affine[axis, axis] = mm[axis] if towards_ras else -mm[axis]
    image = nibabel.Nifti1Image(values.astype(np.int16), np.eye(4) if lost else affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV as published ones are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def cut_short(path: Path, lost_bytes: int) -> None:
    """Damage a file: take its end away."""
    path.write_bytes(path.read_bytes()[:-lost_bytes])


def _random_names(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"ID_{rng.getrandbits(36):09x}" for _ in range(count)]


def _rsna_image(
    one: SimulatedHead, z: int, name: str, patient: str, series: str, *, wrapped: bool
) -> Dataset:
    """One image with the few attributes that RSNA left in, its own names in place of UIDs."""
    plane, hu = planes_of(one)[z], one.hu[z]
    ds = Dataset()
    ds.SOPInstanceUID = name
    ds.Modality = "CT"
    ds.PatientID = patient
    ds.StudyInstanceUID = f"ID_57ud1{series[-4:]}"
    ds.SeriesInstanceUID = series
    ds.StudyID = ""
    ds.ImagePositionPatient = [f"{v:.6f}" for v in plane.position_mm]
    ds.ImageOrientationPatient = [
        f"{v:.6f}" for v in (*plane.row_direction, *plane.column_direction)
    ]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.PixelSpacing = [f"{v:.6f}" for v in plane.spacing_mm]
    ds.BitsAllocated = 16
    ds.BitsStored, ds.PixelRepresentation = (12, 0) if wrapped else (16, 1)
    ds.HighBit = ds.BitsStored - 1
    ds.WindowCenter, ds.WindowWidth = (
        (["00036", "00036"], ["00080", "00080"]) if wrapped else ("30", "80")
    )
    ds.RescaleIntercept, ds.RescaleSlope = ("0" if wrapped else "-1024"), "1"
    stored = np.mod(hu.astype(np.int32), 4096) if wrapped else hu.astype(np.int32) + 1024
    ds.add_new(0x7FE00010, "OW", stored.astype("<u2" if wrapped else "<i2").tobytes())
    return ds


def _save_bare(ds: Dataset, path: Path) -> None:
    """Write a file whose data set has no SOP Class, as RSNA's have none; its meta header has."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.840.4267.32." + str(
        int(ds.SOPInstanceUID[3:], 16)
    )
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = "1.2.40.0.13.1.1.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def _write_cq500_series(one: SimulatedHead, folder: Path, study: int, number: int) -> None:
    """Write one series as CQ500 has them: without a description of study or series."""
    who = Identity.simulated(study, age_years=50)
    files = write_series(one, folder, identity=who, series_number=number, kernel_name="STANDARD")
    for index, path in enumerate(files):
        ds = dcmread(path)
        for name in ("SeriesDescription", "StudyDescription", "PatientAge", "PatientBirthDate"):
            delattr(ds, name)
        path.unlink()
        ds.save_as(folder / f"CT{index:06d}.dcm", enforce_file_format=True)

"""One simulated head: anatomy, bleeds and scanner put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom import acquisition as scanner
from ichnode.phantom import bleeds as blood
from ichnode.phantom.acquisition import Kernel, Scan
from ichnode.phantom.anatomy import Anatomy, Cranium, draw_anatomy, paint_cavity, paint_outside
from ichnode.phantom.bleeds import Bleed
from ichnode.phantom.fields import Field, Points, Where

AIR_HU = -1000.0
VISIBLE_HU = 5.0  # blood that lifts a voxel by less cannot be told from its surroundings
VISIBLE_AREA_MM2 = 14.0
VISIBLE_RATIO = 12.0  # contrast over noise, times the root of the area in mm2
ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class SimulatedHead:
    """A simulated head CT and its truth.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
        Hounsfield units, from the feet upwards; front of the head at row 0, the patient's left at
        the high columns (the canonical axial display).
    spacing_mm : tuple of float
        (z, y, x); z along the slice normal.
    thickness_mm : float
        Slice thickness.
    labels : ndarray, bool, (z, 6)
        Visible blood per slice, in the order of `ichnode.domain.findings.LABELS`.
    mask : ndarray, uint8, (z, y, x)
        0, or 1 plus the index of the kind in ``LABELS[1:]``.
    tilt_deg : float
        Gantry tilt; the planes are sheared along the table, as a tilted scanner sends them.
    seed : int
        What the head was drawn from.
    volumes_ml : dict
        Visible volume of each kind that is present.
    kernel : {"soft", "bone"}
        What it was reconstructed with.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    labels: npt.NDArray[np.bool_] = field(repr=False)
    mask: npt.NDArray[np.uint8] = field(repr=False)
    tilt_deg: float
    seed: int
    volumes_ml: dict[Label, float]
    kernel: Kernel = "soft"
    age_years: float = 60.0

    @property
    def positive(self) -> bool:
        """Say whether any slice shows blood."""
        return bool(self.labels[:, 0].any())


def simulate_head(
    seed: int,
    *,
    bleeds: Sequence[Label] | None = None,
    slices: int | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    size_px: int = 512,
    kernel: Kernel = "soft",
    least_bleed_ml: float = 0.0,
) -> SimulatedHead:
    """Simulate one head CT; the same arguments give the same head.

    The anatomy depends on `seed` and the acquisition's shape alone, so that heads of one seed with
    and without a bleed differ by the bleed.

    Parameters
    ----------
    seed : int
        Not negative.
    bleeds : sequence of Label, optional
        Kinds to put in (each is made large enough to be seen); () for none; None lets the seed
        decide, which leaves about half the heads without.
    slices : int, optional
        How many; by default as many as cover the head.
    spacing_mm : tuple of float, optional
        (z, y, x); drawn by default.
    size_px : int
        Rows and columns.
    kernel : {"soft", "bone"}
        Reconstruction kernel.
    least_bleed_ml : float
        No bleed is drawn smaller; of those asked for, a quarter of this is to be seen.

    Raises
    ------
    ValueError
        For a seed, shape or kind of bleed that makes no sense.
    """
    if seed < 0 or size_px < 32 or (slices is not None and slices < 1):
        raise ValueError("seed, size_px or slices out of range")
    anatomy = draw_anatomy(np.random.default_rng((seed, 1)))
    scan = scanner.draw_scan(
        np.random.default_rng((seed, 2)),
        slices=slices,
        spacing_mm=spacing_mm,
        size_px=size_px,
        kernel=kernel,
    )
    view = _view(scan, anatomy)
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((seed, 3, attempt))
        least_ml = max(least_bleed_ml, 0.0 if attempt == 0 else 4.0 * 2**attempt)
        drawn = blood.draw_bleeds(rng, bleeds, least_ml)
        head = _expose(seed, anatomy, scan, view, drawn)
        if bleeds is None or _shows(head, bleeds, least_bleed_ml / 4):
            break
    return head


def _shows(head: SimulatedHead, bleeds: Sequence[Label], least_ml: float) -> bool:
    """Say whether enough can be seen of every kind that was asked for."""
    seen = head.volumes_ml
    return set(seen) == set(bleeds) and all(volume >= least_ml for volume in seen.values())


@dataclass(frozen=True, slots=True)
class _View:
    """The parts of the scan that do not depend on bleeds."""

    shape: tuple[int, int, int]  # (slices x sub-planes, y, x)
    cavity: npt.NDArray[np.intp]  # flat indices of the points in and near the cavity
    cranium: Cranium  # at those points
    points: Points
    base: Field  # (slices, n, n): everything but the cavity's contents, HU
    share: Field  # of the cavity, at its points
    body: Field  # (slices, n, n): fraction of head
    bone: Field  # (slices, n, n)


def _view(scan: Scan, anatomy: Anatomy) -> _View:
    grid = scanner.head_points(scan)
    shape = grid.x.shape
    near: Where = ((grid.x / 88) ** 2 + ((grid.y + 4) / 116) ** 2 < 1) & (grid.z < 100)
    flat = np.flatnonzero(near)
    outside = paint_outside(anatomy, Points(grid.x[near], grid.y[near], grid.z[near]))
    base = _planes(shape, flat, outside.hu - AIR_HU) + AIR_HU
    body = _planes(shape, flat, outside.body)
    bone = _planes(shape, flat, outside.bone)
    inner = outside.share > 0
    points = Points(*(axis[near][inner] for axis in (grid.x, grid.y, grid.z)))
    return _View(
        shape=(shape[0], shape[1], shape[2]),
        cavity=flat[inner],
        cranium=outside.cranium_at(inner),
        points=points,
        base=scanner.merge_sub_slices(scan, base),
        share=outside.share[inner],
        body=scanner.merge_sub_slices(scan, body),
        bone=scanner.merge_sub_slices(scan, bone),
    )


def _planes(shape: tuple[int, ...], flat: npt.NDArray[np.intp], values: Field) -> Field:
    planes = np.zeros(shape, np.float32)
    planes.reshape(-1)[flat] = values
    return planes


def _expose(
    seed: int, anatomy: Anatomy, scan: Scan, view: _View, drawn: tuple[Bleed, ...]
) -> SimulatedHead:
    contents = paint_cavity(anatomy, view.points, view.cranium, drawn)

    def spread(values: Field) -> Field:
        planes = _planes(view.shape, view.cavity, values * view.share)
        return scanner.merge_sub_slices(scan, planes)

    # The cavity's share of `base` is empty, so its contents simply add.
    hu = view.base + spread(contents.hu)
    lifts = {bleed.kind: spread(lift) for bleed, lift in zip(drawn, contents.lifts, strict=True)}
    image = _reconstruct(seed, scan, view, hu)
    hidden = scanner.beside_bone(scan, view.bone)
    labels, mask, volumes = _truth(scan, lifts, hidden, image.shape)
    return SimulatedHead(
        hu=np.clip(np.rint(image), -1024, 3071).astype(np.int16),
        spacing_mm=scan.spacing_mm,
        thickness_mm=scan.thickness_mm,
        labels=labels,
        mask=mask,
        tilt_deg=scan.tilt_deg,
        seed=seed,
        volumes_ml=volumes,
        kernel=scan.kernel,
        age_years=anatomy.brain.age_years,
    )


def _reconstruct(seed: int, scan: Scan, view: _View, hu: Field) -> Field:
    hu = scanner.harden(scan, hu, view.bone, view.body)
    image = scanner.enlarge(scan, hu)
    body = np.clip(scanner.enlarge(scan, view.body), 0, 1)
    image = scanner.add_holder(scan, np.random.default_rng((seed, 4)), image, body)
    if scan.kernel == "bone":
        image = scanner.sharpen(image, scan.spacing_mm[1])
    return scanner.expose(scan, np.random.default_rng((seed, 5)), image, body)


def _truth(
    scan: Scan, lifts: dict[Label, Field], hidden: Where, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8], dict[Label, float]]:
    labels = np.zeros((shape[0], len(LABELS)), np.bool_)
    mask = np.zeros(shape, np.uint8)
    volumes: dict[Label, float] = {}
    pixel_mm2 = scan.spacing_mm[1] * scan.spacing_mm[2]
    for kind, lift in lifts.items():
        index = LABELS.index(kind)
        lift = scanner.enlarge(scan, lift)
        seen = (lift > VISIBLE_HU) & ~hidden
        shown = visible_slices(lift, seen, scan, pixel_mm2)
        labels[shown, index] = True
        seen &= shown[:, None, None]
        mask[seen & (mask == 0)] = index
        if shown.any():
            volumes[kind] = float(seen.sum()) * pixel_mm2 * scan.spacing_mm[0] / 1000
    labels[:, 0] = labels[:, 1:].any(axis=1)
    return labels, mask, volumes


def visible_slices(lift: Field, seen: Where, scan: Scan, pixel_mm2: float) -> npt.NDArray[np.bool_]:
    """Say which slices show blood: by its area, and by contrast over noise times root of area."""
    area = seen.sum(axis=(1, 2)) * pixel_mm2
    contrast = np.where(seen, lift, 0).sum(axis=(1, 2)) * pixel_mm2 / np.maximum(area, 1e-6)
    # Judged as a reader sees it: the sharp kernel's noise does not change the truth.
    noise = scan.noise_hu / (7.0 if scan.kernel == "bone" else 1.0)
    ratio = contrast / noise * np.sqrt(area)
    return np.asarray((area >= VISIBLE_AREA_MM2) & (ratio >= VISIBLE_RATIO), dtype=np.bool_)

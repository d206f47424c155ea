"""The scanner: slice positions, pose, partial volume, noise, beam hardening, holder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum_filter

from ichnode.phantom.fields import Field, Points, as_field, log_uniform

Kernel: TypeAlias = Literal["soft", "bone"]
FEET_MM = -66.0  # where a head scan usually begins, in the head's own frame
COVERAGE_MM = 148.0
WORK_PX = 256  # anatomy is evaluated at no more than this many pixels a side


@dataclass(frozen=True, slots=True)
class Scan:
    """One drawn acquisition."""

    slices: int
    size_px: int
    spacing_mm: tuple[float, float, float]  # along the slice normal, down, across
    thickness_mm: float
    tilt_deg: float
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    scale: float
    offset_mm: tuple[float, float]  # of the head from the isocentre: left, forwards
    start_mm: float
    noise_hu: float
    grain_mm: float
    streak_hu: float
    cupping_hu: float
    bias_hu: float
    motion: float
    holder: int
    kernel: Kernel

    @property
    def step_mm(self) -> float:
        """Table travel between slices (a tilted gantry spreads the planes less)."""
        return self.spacing_mm[0] / float(np.cos(np.deg2rad(self.tilt_deg)))


def draw_scan(
    rng: np.random.Generator,
    *,
    slices: int | None,
    spacing_mm: tuple[float, float, float] | None,
    size_px: int,
    kernel: Kernel,
) -> Scan:
    """Draw an acquisition; what is given is kept."""
    fov = float(np.clip(rng.normal(238, 10), 215, 265))
    thick = float(rng.choice([4.0, 4.5, 5.0, 5.0, 6.0, 7.0], p=[0.2, 0.2, 0.25, 0.2, 0.1, 0.05]))
    tilt = float(rng.choice([0.0, 0.0, 1.0]) * np.clip(rng.normal(14, 5), 2, 24))
    start = FEET_MM + float(rng.normal(0, 7))
    if spacing_mm is None:
        along = thick if slices is None else float(np.clip(COVERAGE_MM / slices, 0.6, 5.0))
        spacing_mm = (along, fov / size_px, fov / size_px)
    step = spacing_mm[0] / float(np.cos(np.deg2rad(tilt)))
    count = slices if slices is not None else int(np.ceil((COVERAGE_MM + 4) / step))
    short = COVERAGE_MM - count * step
    if short > 10:  # too few for a whole head: take the middle of the brain
        start = 10 - count * step / 2
    sharp = kernel == "bone"
    soft_noise = log_uniform(rng, 1.7, 4.0) * float(np.sqrt(5.0 / max(min(spacing_mm[0], 5), 1.2)))
    return Scan(
        slices=count,
        size_px=size_px,
        spacing_mm=spacing_mm,
        thickness_mm=spacing_mm[0],
        tilt_deg=tilt,
        yaw_deg=float(rng.normal(0, 6)),
        pitch_deg=float(rng.normal(0, 5)) - tilt,
        roll_deg=float(rng.normal(0, 3)),
        scale=float(rng.normal(1.0, 0.035)),
        offset_mm=(float(rng.normal(0, 5)), float(rng.normal(2, 6))),
        start_mm=start,
        noise_hu=soft_noise * (7.0 if sharp else 1.0),
        grain_mm=0.35 if sharp else float(rng.uniform(0.55, 0.9)),
        streak_hu=float(rng.gamma(2.0, 3.0)),
        cupping_hu=float(rng.uniform(0, 7)),
        bias_hu=float(rng.normal(0, 1.0)),
        motion=float(rng.uniform(0.5, 3.0)) if rng.random() < 0.06 else 0.0,
        holder=int(rng.integers(0, 3)),
        kernel=kernel,
    )


def work_size(scan: Scan) -> int:
    """Return the in-plane size at which the anatomy is evaluated."""
    return min(scan.size_px, WORK_PX)


def sub_slices(scan: Scan) -> int:
    """Return into how many thin planes a slice is divided for partial volume."""
    return int(np.clip(np.ceil(scan.thickness_mm / 2.0), 1, 4 if scan.thickness_mm > 5 else 3))


def head_points(scan: Scan) -> Points:
    """Return where each voxel's sub-planes lie in the head.

    Returns
    -------
    Points
        Arrays (slices x sub-planes, y, x) in mm of the head's own frame, float32.
    """
    n, parts = work_size(scan), sub_slices(scan)
    across, down = _pixel_offsets(scan, n)
    tilt = np.deg2rad(scan.tilt_deg)
    order = (np.arange(parts) + 0.5) / parts - 0.5
    along = (np.arange(scan.slices)[:, None] + order[None, :]).reshape(-1) * scan.step_mm
    # Distances from the isocentre: left, forwards, up.
    left = across[None, None, :] - scan.offset_mm[0]
    ahead = -down[None, :, None] * np.cos(tilt) - scan.offset_mm[1]
    up = along[:, None, None] + scan.start_mm - down[None, :, None] * np.sin(tilt)
    turn = _rotation(scan) / scan.scale
    x, y, z = ((row[0] * left + row[1] * ahead + row[2] * up).astype(np.float32) for row in turn)
    return Points(x, y, z)


def _pixel_offsets(scan: Scan, n: int) -> tuple[Field, Field]:
    step = scan.size_px / n
    centred = ((np.arange(n) + 0.5) * step - scan.size_px / 2).astype(np.float32)
    return centred * np.float32(scan.spacing_mm[2]), centred * np.float32(scan.spacing_mm[1])


def _rotation(scan: Scan) -> Field:
    yaw, pitch, roll = np.deg2rad([scan.yaw_deg, scan.pitch_deg, scan.roll_deg])
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    )  # fmt: skip
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return as_field(about_z @ about_x @ about_y)


def merge_sub_slices(scan: Scan, planes: Field) -> Field:
    """Average the sub-planes of each slice: (slices x parts, y, x) to (slices, y, x)."""
    parts = sub_slices(scan)
    if parts == 1:
        return planes
    return as_field(planes.reshape(scan.slices, parts, *planes.shape[1:]).mean(axis=1))


def enlarge(scan: Scan, stack: Field) -> Field:
    """Interpolate (slices, n, n) to the scan's own matrix."""
    n, size = stack.shape[-1], scan.size_px
    if n == size:
        return stack
    weights = _interpolation(n, size)
    return as_field(np.einsum("rn,knm->krm", weights, stack, optimize=True) @ weights.T)


def _interpolation(n: int, size: int) -> Field:
    """Return the (size, n) matrix of cubic B-spline smoothing between pixel centres.

    It blurs a little, as a scanner does; sharper ones overshoot beside bone, by more than the
    contrast of a bleed.
    """
    place = (np.arange(size) + 0.5) * n / size - 0.5
    base = np.floor(place).astype(int)
    t = place - base
    taps = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    weights = np.zeros((size, n), np.float32)
    for tap, share in enumerate(taps):
        np.add.at(weights, (np.arange(size), np.clip(base - 1 + tap, 0, n - 1)), share)
    return weights


def beside_bone(scan: Scan, bone: Field) -> npt.NDArray[np.bool_]:
    """Say which pixels bone outshines, so that blood in them cannot be seen: (slices, y, x)."""
    px = scan.spacing_mm[1] * scan.size_px / bone.shape[-1]
    width = 1 + 2 * max(1, round(1.2 / px))
    solid = maximum_filter(bone > 0.3, size=(1, width, width))
    rows = np.arange(scan.size_px) * bone.shape[-1] // scan.size_px
    return np.asarray(solid[:, rows][:, :, rows], dtype=np.bool_)


def harden(scan: Scan, hu: Field, bone: Field, inside: Field) -> Field:
    """Add cupping beside the vault and streaks between dense parts of the base."""
    px = scan.spacing_mm[1] * scan.size_px / hu.shape[-1]
    near = gaussian_filter(bone, (0, 5 / px, 5 / px), truncate=2.5)
    far = gaussian_filter1d(bone, 22 / px, axis=2, truncate=2.0)
    fine = gaussian_filter1d(far, 1.6 / px, axis=1) - gaussian_filter1d(far, 6 / px, axis=1)
    change = scan.cupping_hu * near * 2.2 + scan.streak_hu * 5.5 * fine
    change = change - 0.35 * scan.streak_hu * np.clip(far - 0.25, 0, 1) * 2
    return as_field(hu + change * inside)


def expose(scan: Scan, rng: np.random.Generator, hu: Field, body: Field) -> Field:
    """Add noise with the kernel's grain, motion and the scanner's offset."""
    px = scan.spacing_mm[1]
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    sigma = max(scan.grain_mm / px, 0.25)
    fine = gaussian_filter(noise, (0, sigma, sigma), truncate=3.0)
    if scan.kernel == "bone":  # a sharp kernel lifts the high frequencies
        fine = noise - 0.8 * gaussian_filter(noise, (0, 0.8, 0.8), truncate=3.0)
    fine = fine / (fine.std() + 1e-6)
    level = _noise_level(scan, body)
    hu = hu + fine * level + scan.bias_hu * (body > 0.5)
    if scan.motion:
        hu = _shake(scan, rng, hu)
    return hu


def _noise_level(scan: Scan, body: Field) -> Field:
    """Return sigma in HU: lower in air, higher in the middle of the head."""
    n = body.shape[-1]
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    centre = 1.12 - 0.3 * (axis[:, None] ** 2 + axis[None, :] ** 2)
    return (scan.noise_hu * centre * (0.25 + 0.75 * body)).astype(np.float32)


def _shake(scan: Scan, rng: np.random.Generator, hu: Field) -> Field:
    moved = hu.copy()
    for k in np.flatnonzero(rng.random(len(hu)) < 0.3):
        shift = max(1, round(scan.motion / scan.spacing_mm[1]))
        ghost = np.roll(hu[k], shift, axis=int(rng.integers(0, 2)))
        share = rng.uniform(0.2, 0.45)
        moved[k] = (1 - share) * hu[k] + share * ghost
    return moved


def add_holder(scan: Scan, rng: np.random.Generator, hu: Field, body: Field) -> Field:
    """Put the head holder into the air around the head; it is the same in every slice."""
    if not scan.holder:
        return hu
    n = hu.shape[-1]
    centred = np.arange(n, dtype=np.float32) + 0.5 - n / 2
    down = centred[:, None] * np.float32(scan.spacing_mm[1])
    across = centred[None, :] * np.float32(scan.spacing_mm[2])
    radius, width = rng.uniform(98, 116), rng.uniform(1.2, 2.5)
    lean = rng.normal(0, 3)
    shell = np.abs(np.hypot(across - lean, down) - radius)
    arc = np.clip(width - shell, 0, 1) * (down > rng.uniform(-30, 50))
    foam = (np.hypot(across - lean, down) < radius) & (down > 10)
    level = rng.uniform(-150, 250) if scan.holder == 1 else rng.uniform(-700, -300)
    free = np.clip(1 - body, 0, 1)
    hu = hu + free * arc * (level + 1000)
    return as_field(hu + free * foam * (1 - arc) * rng.uniform(5, 60))


def sharpen(hu: Field, spacing_mm: float) -> Field:
    """Lift the edges as a bone kernel does."""
    blurred = gaussian_filter(hu, (0, 1.0 / spacing_mm, 1.0 / spacing_mm), truncate=2.5)
    return as_field(hu + 0.9 * (hu - blurred))

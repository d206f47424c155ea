"""Decode the pixel data of one file into stored values, after checking what it promises.

The decoders are C and C++ libraries behind pydicom's plugins (python-gdcm, pyjpegls,
pylibjpeg-openjpeg); nothing reaches them before sizes and the codestream's own dimensions have been
compared with the header, because a small hostile file can otherwise ask for gigabytes.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from openjpeg.utils import decode_pixel_data
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder

from ichnode.domain.errors import NotAnalysable, Transient
from ichnode.domain.reasons import Reason
from ichnode.imaging.codestream import codestream
from ichnode.imaging.elements import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    PIXEL_DATA,
    SEQUENCES,
    NotPart10,
    Part10,
    read_part10,
)
from ichnode.imaging.values import first, integer

MAX_SIDE = 4096
MAX_FRAMES = 2000
MAX_PIXEL_BYTES = 2 << 30

_NATIVE = frozenset((IMPLICIT_LE, EXPLICIT_LE, DEFLATED_LE, EXPLICIT_BE))
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_HEADROOM = 1 << 26  # what may stand beside the pixels in a deflated data set

PIXEL_TAGS = SEQUENCES | {
    0x00080005,  # Specific Character Set
    0x00080008,  # Image Type
    0x00089007,  # Frame Type
    0x00180050,  # Slice Thickness
    0x00200032,  # Image Position (Patient)
    0x00200037,  # Image Orientation (Patient)
    0x00280002,  # Samples per Pixel
    0x00280004,  # Photometric Interpretation
    0x00280008,  # Number of Frames
    0x00280010,  # Rows
    0x00280011,  # Columns
    0x00280030,  # Pixel Spacing
    0x00280100,  # Bits Allocated
    0x00280101,  # Bits Stored
    0x00280102,  # High Bit
    0x00280103,  # Pixel Representation
    0x00280120,  # Pixel Padding Value
    0x00280121,  # Pixel Padding Range Limit
    0x00281052,  # Rescale Intercept
    0x00281053,  # Rescale Slope
    0x00281054,  # Rescale Type
    0x00200012,  # Acquisition Number
    0x00209156,  # Frame Acquisition Number
    _EXTENDED_OFFSETS,
    _EXTENDED_LENGTHS,
    PIXEL_DATA,
}

_DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom's plugins raise on damaged codestreams; all of it means the same to us."""


@dataclass(frozen=True, slots=True)
class PixelForm:
    """The form that a header promises for its pixels (PS3.3 C.7.6.3), within our limits."""

    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame when it is not compressed."""
        return self.rows * self.columns * self.bits_allocated // 8


def unreadable(detail: str) -> NotAnalysable:
    """Return the refusal of pixel data that cannot be decoded."""
    return NotAnalysable(Reason.UNREADABLE, detail)


def read_picture(path: Path, also: frozenset[int] = frozenset()) -> Part10:
    """Read what decoding and rescaling need of a file, pixel data included but not decoded.

    Parameters
    ----------
    path : Path
        The Part 10 file.
    also : frozenset of int
        Further tags to keep, in the same reading.

    Raises
    ------
    NotAnalysable
        UNREADABLE, when the file is gone or is no DICOM file.
    Transient
        When the disk or the file server does not let us read: nothing is wrong with the image.
    """
    try:
        source = path.read_bytes()
        limit = _inflate_limit(source)
        return read_part10(source, PIXEL_TAGS | also, last=PIXEL_DATA, inflate_limit=limit)
    except (FileNotFoundError, NotPart10) as error:
        raise unreadable(type(error).__name__) from error
    except OSError as error:
        raise Transient(f"An instance file could not be read: {_errno(error)}.") from error


def _errno(error: OSError) -> str:
    """Return the name of the error, without the path: EIO."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _inflate_limit(source: bytes) -> int:
    """Return how far a deflated data set may be inflated: as far as its header has a use for."""
    if DEFLATED_LE.encode() not in source[:1024]:
        return 0
    head = read_part10(source, PIXEL_TAGS, last=0x0028FFFF, inflate_limit=_HEADROOM)
    form = pixel_form(head.dataset)
    return _HEADROOM + form.frame_bytes * form.frames


def pixel_form(dataset: Dataset) -> PixelForm:
    """Return the promised form of the pixels.

    Raises
    ------
    NotAnalysable
        NOT_HOUNSFIELD for colour; UNREADABLE for a form that is missing, impossible, or larger
        than 4096 x 4096 pixels, 2000 frames or 2 GiB.
    """
    if integer(dataset, 0x00280002) not in (1, None):
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, "more than one sample per pixel")
    if first(dataset, 0x00280004) not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, "not a grey-scale image")
    stored = integer(dataset, 0x00280101) or 0
    high_bit = integer(dataset, 0x00280102)
    form = PixelForm(
        rows=integer(dataset, 0x00280010) or 0,
        columns=integer(dataset, 0x00280011) or 0,
        frames=max(integer(dataset, 0x00280008) or 1, 1),
        bits_allocated=integer(dataset, 0x00280100) or 0,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=_is_signed(dataset),
    )
    if not (0 < form.rows <= MAX_SIDE and 0 < form.columns <= MAX_SIDE):
        raise unreadable(f"{form.rows} x {form.columns} pixels")
    if form.frames > MAX_FRAMES or form.frame_bytes * form.frames > MAX_PIXEL_BYTES:
        raise unreadable(f"{form.frames} frames of {form.frame_bytes} bytes")
    if form.bits_allocated not in (8, 16, 32) or not (
        0 < stored <= form.high_bit + 1 <= form.bits_allocated
    ):
        raise unreadable(f"{form.bits_allocated}/{stored}/{form.high_bit} bits")
    return form


def _is_signed(dataset: Dataset) -> bool:
    representation = integer(dataset, 0x00280103)
    if representation not in (0, 1):
        raise unreadable("pixel representation")  # a wrong guess turns air into bone
    return representation == 1


def decode(picture: Part10) -> npt.NDArray[np.generic]:
    """Decode all frames to stored values, without touching unused bits, sign or padding.

    Returns
    -------
    numpy.ndarray
        Shape (frames, rows, columns), of the unsigned or signed integer type of Bits Allocated, in
        native byte order. Values are containers: `hounsfield` takes the stored bits out of them.

    Raises
    ------
    NotAnalysable
        UNREADABLE when there is no pixel data, less than promised, or no decoder can read it.
    """
    form = pixel_form(picture.dataset)
    element = picture.dataset.get_item(PIXEL_DATA)
    if element is None or not element.value:
        raise unreadable("there is no pixel data")
    if picture.transfer_syntax_uid in _NATIVE:
        return _native(bytes(element.value), form, picture.transfer_syntax_uid == EXPLICIT_BE)
    try:
        frames = list(_decompressed(bytes(element.value), form, picture))
    except _DECODER_ERRORS as error:
        raise unreadable(type(error).__name__) from error
    if len(frames) < form.frames:
        raise unreadable(f"{len(frames)} of {form.frames} frames")
    return np.stack(frames) if form.frames > 1 else frames[0][None]


def _native(value: bytes, form: PixelForm, big_endian: bool) -> npt.NDArray[np.generic]:
    """View native pixel data as an array; 8-bit data of odd length carries one padding byte."""
    if len(value) < form.frame_bytes * form.frames:
        raise unreadable(f"{len(value)} of {form.frame_bytes * form.frames} bytes")
    dtype = np.dtype(f"{'>' if big_endian else '<'}u{form.bits_allocated // 8}")
    shape = (form.frames, form.rows, form.columns)
    held = np.frombuffer(value, dtype, count=form.rows * form.columns * form.frames)
    return held.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _decompressed(
    value: bytes, form: PixelForm, picture: Part10
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the promised number of frames of an encapsulated value, each checked first."""
    syntax = picture.transfer_syntax_uid
    offsets = picture.dataset.get_item(_EXTENDED_OFFSETS)
    lengths = picture.dataset.get_item(_EXTENDED_LENGTHS)
    extended = (bytes(offsets.value), bytes(lengths.value)) if offsets and lengths else None
    encoded = generate_frames(value, number_of_frames=form.frames, extended_offsets=extended)
    decoder = _DECODERS.get(syntax)
    if decoder is None:
        raise unreadable("unknown transfer syntax")
    for _, frame in zip(range(form.frames), encoded, strict=False):
        if syntax == _RLE:
            yield decoder(frame, form, syntax)
            continue
        stream = codestream(frame)
        if (stream.rows, stream.columns, stream.components) != (form.rows, form.columns, 1):
            raise unreadable(f"the codestream is {stream.rows} x {stream.columns}")
        if stream.precision > form.bits_allocated:
            raise unreadable(f"the codestream has {stream.precision} bits")
        array = decoder(frame, form, syntax)
        if form.signed and not stream.signed and stream.precision < form.bits_stored:
            array = sign_extended(array, stream.precision)
        yield array


def sign_extended(
    containers: npt.NDArray[np.generic], bits: int
) -> npt.NDArray[np.signedinteger[Any]]:
    """Read the low `bits` of each container as a signed number."""
    shift = containers.dtype.itemsize * 8 - bits
    signed = containers.view(f"i{containers.dtype.itemsize}")
    return np.asarray(np.right_shift(np.left_shift(signed, shift), shift))


def _by_pydicom(frame: bytes, form: PixelForm, syntax: str) -> npt.NDArray[np.generic]:
    """Decode RLE (pydicom) and JPEG (gdcm)."""
    array, _ = get_decoder(syntax).as_array(
        encapsulate([frame], has_bot=False),
        raw=True,
        validate=False,
        rows=form.rows,
        columns=form.columns,
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=form.bits_allocated,
        bits_stored=form.bits_stored,
        pixel_representation=int(form.signed),
        pixel_keyword="PixelData",
    )
    return cast(npt.NDArray[np.generic], array)


def _by_openjpeg(frame: bytes, form: PixelForm, _: str) -> npt.NDArray[np.generic]:
    return _as_containers(cast(bytearray, decode_pixel_data(frame, version=2)), form)


def _by_charls(frame: bytes, form: PixelForm, _: str) -> npt.NDArray[np.generic]:
    return _as_containers(jpeg_ls.decode_pixel_data(frame)[0], form)


def _as_containers(decoded: bytearray, form: PixelForm) -> npt.NDArray[np.generic]:
    """View decoded bytes as containers; a decoder's may be narrower than Bits Allocated says."""
    pixels = form.rows * form.columns
    if len(decoded) % pixels or len(decoded) // pixels not in (1, 2, 4):
        raise unreadable(f"{len(decoded)} bytes decoded for {pixels} pixels")
    return np.frombuffer(decoded, f"<u{len(decoded) // pixels}").reshape(form.rows, form.columns)


_DECODERS: dict[str, Callable[[bytes, PixelForm, str], npt.NDArray[np.generic]]] = {
    _RLE: _by_pydicom,
    _JPEG + "50": _by_pydicom,
    _JPEG + "57": _by_pydicom,
    _JPEG + "70": _by_pydicom,
    _JPEG + "80": _by_charls,
    _JPEG + "81": _by_charls,
    _JPEG + "90": _by_openjpeg,
    _JPEG + "91": _by_openjpeg,
    _JPEG + "201": _by_openjpeg,
    _JPEG + "202": _by_openjpeg,
    _JPEG + "203": _by_openjpeg,
}

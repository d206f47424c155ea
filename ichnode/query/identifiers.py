"""Data sets on the wire: read with distrust, written in UTF-8.

pydicom warns of odd values and quotes them; here they are refused or taken as text, in silence.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.charset import python_encoding
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from ichnode.query.statuses import CANNOT_UNDERSTAND, Refused
from ichnode.query.structure import Broken, Structure

UTF_8 = "ISO_IR 192"
MOST_VALUES = 64
"""Of an attribute that is no UID: each is compared with each study, one by one."""
_UNREADABLE = "\ufffd"
_SILENCE = threading.Lock()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep warnings away; what silences them belongs to the whole process, hence one at a time."""
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(content: BytesIO | None, transfer_syntax: str) -> Dataset:
    """Read the data set of a request, texts decoded.

    Raises
    ------
    Refused
        0xC000 where it is no data set, or one that means us no good: too many elements, too deep,
        in a character set that nobody knows, or in another than it says.
    """
    syntax = UID(transfer_syntax)
    if content is None:
        raise Refused(CANNOT_UNDERSTAND, "The request has no data set.")
    content.seek(0)
    try:
        Structure(content.getvalue(), syntax.is_implicit_VR, syntax.is_little_endian).check()
        with _silence():
            dataset = decode(
                content, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
            )
            _check_encodings(dataset)
            dataset.decode()
            _check_texts(dataset)
    except Refused:
        raise
    except Broken as broken:
        raise Refused(CANNOT_UNDERSTAND, f"The data set cannot be read: {broken}.") from None
    except (Exception, RecursionError) as error:  # hostile bytes fail in pydicom in many ways
        raise Refused(CANNOT_UNDERSTAND, "The data set cannot be read.") from error
    return dataset


def _check_encodings(dataset: Dataset) -> None:
    for one in _values(dataset.get("SpecificCharacterSet")):
        if str(one) not in python_encoding:
            raise Refused(CANNOT_UNDERSTAND, "The character set of the request is not known.")


def _check_texts(dataset: Dataset) -> None:
    """Look at every value, so that nothing that cannot be read is left for later."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _check_texts(item)
        elif element.VR != "UI" and len(_values(element.value)) > MOST_VALUES:
            raise Refused(CANNOT_UNDERSTAND, "An attribute of the request has too many values.")
        elif any(_UNREADABLE in str(value) for value in _values(element.value)):
            raise Refused(
                CANNOT_UNDERSTAND, "The request is in another character set than it says."
            )


def write(dataset: Dataset, transfer_syntax: str) -> BytesIO:
    """Return a data set as bytes, texts in UTF-8.

    Raises
    ------
    ValueError
        When it cannot be encoded; the message may quote it.
    """
    syntax = UID(transfer_syntax)
    dataset.SpecificCharacterSet = UTF_8
    with _silence():
        encoded = encode(
            dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
    if encoded is None:
        raise ValueError("a data set cannot be encoded")
    return BytesIO(encoded)


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else [value]


def values_of(element: Any) -> list[str]:
    """Return the values of an element as text, without padding; none where it is empty."""
    return [text for value in _values(element.value) if (text := str(value).strip())]

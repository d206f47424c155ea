"""Everything that ichnode raises on purpose, grouped by what the one who catches it must do.

::

    IchnodeError
    ├── Transient            try again later, with back-off
    │   ├── OutOfSpace       disk or backlog is full: refuse new images, keep sending results
    │   ├── WorklistDown     the database does not answer
    │   └── PeerFailure      a PACS refused, closed or stayed silent
    ├── NotAnalysable        this series, for a stated reason, for good: NOT ANALYSED
    ├── BadInstance          bytes that are no instance we can keep: a DICOM status for the sender
    ├── LeaseLost            somebody else holds the work now: drop the result
    └── Fatal                the process must end with a non-zero code
        ├── ConfigurationError   the settings are wrong; the message says which and what to do
        ├── SchemaMismatch       the database is of another version; the message says what to run
        └── ModelUnusable        the bundle is missing, damaged or fails its self-test

No message carries patient data: they end up in logs.
"""

from __future__ import annotations

from ichnode.domain.reasons import Reason


class IchnodeError(Exception):
    """Something went wrong in ichnode."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").splitlines()[0])


class Transient(IchnodeError):
    """It did not work this time and may work later."""


class OutOfSpace(Transient):
    """There is no room for more images."""


class WorklistDown(Transient):
    """The database does not answer."""


class PeerFailure(Transient):
    """A peer refused, closed the connection or stayed silent."""


class NotAnalysable(IchnodeError):
    """The series cannot be analysed, for a stated reason.

    Parameters
    ----------
    reason : Reason
        The reason that people are shown.
    detail : str
        Figures that explain it ("3 slices"), never patient data.
    may_change : bool
        True when later slices could cure it ("too few slices"); the series is then asked again
        when it is final.
    """

    def __init__(self, reason: Reason, detail: str = "", *, may_change: bool = False) -> None:
        super().__init__(f"{reason.sentence} ({detail})" if detail else reason.sentence)
        self.reason = reason
        self.detail = detail
        self.may_change = may_change


class BadInstance(IchnodeError):
    """These bytes are no instance that can be kept.

    Parameters
    ----------
    status : int
        The C-STORE status for the sender (PS3.4 B.2.3): 0xA900 for a data set that does not match
        its SOP class, 0xC000 for one that cannot be understood.
    message : str
        One sentence without patient data.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LeaseLost(IchnodeError):
    """The lease ran out and somebody else holds the work now."""


class Fatal(IchnodeError):
    """The process cannot go on."""


class ConfigurationError(Fatal):
    """The configuration is wrong."""


class SchemaMismatch(Fatal):
    """The database is of another version."""


class ModelUnusable(Fatal):
    """The model bundle is missing, damaged or fails its self-test."""

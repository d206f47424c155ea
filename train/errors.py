"""What training raises on purpose; the message says what to do, in one sentence, without PHI.

::

    TrainingError          the command ends with it and exit code 1
    └── Unusable           one series or file of many: it is quarantined with this reason
"""

from __future__ import annotations


class TrainingError(Exception):
    """The training cannot go on; the message says what to do."""


class Unusable(TrainingError):
    """One series or file cannot be used, for a stated reason; the others go on.

    Parameters
    ----------
    reason : str
        A short constant that can be counted: ``undecodable``, ``no label``, ``not hounsfield``.
    detail : str
        Figures that explain it; never patient data.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail

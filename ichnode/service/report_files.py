"""Write the texts of reports into a file that labels are made from. It holds PHI."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from ichnode.domain.errors import ConfigurationError
from ichnode.worklist.orders import ReportText

COLUMNS = ("accession_number", "text")  # as `python -m train reports label` reads them


def write_texts(path: Path, reports: Iterable[ReportText]) -> int:
    """Write reports as CSV, for the eyes of the file's owner alone; return how many.

    Raises
    ------
    ConfigurationError
        When the file is there already or cannot be written.
    """
    written = 0
    try:
        place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(place, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for report in reports:
                writer.writerow((report.accession_number, report.text))
                written += 1
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from None
    return written

"""No patient data in logs, whatever is handed to them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

PROGRAM = """
import logging, structlog
from ichnode.logs import configure_logging
configure_logging(style="json", context={"role": "receive"})
log = structlog.get_logger("t")
log.info("instance.stored", series="1.2.3", patient_name="DOE^JANE", size=3)
try:
    raise ValueError("DOE^JANE is not a number")
except ValueError:
    log.exception("stage.broke", stage="infer")
logging.getLogger("some.library").warning("could not parse DOE^JANE")
import threading
def broken():
    raise KeyError("DOE^JANE")
thread = threading.Thread(target=broken)
thread.start()
thread.join()
"""


def lines():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert "DOE" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_unlisted_keys_exception_texts_and_library_lines_are_withheld():
    """The slip is visible, the patient is not."""
    stored, broke, library, uncaught = lines()
    assert stored["event"] == "instance.stored"
    assert stored["withheld"] == ["patient_name"]
    assert (stored["series"], stored["role"]) == ("1.2.3", "receive")
    assert broke["exception"].startswith("ValueError at ")
    assert library["event"] == "library.logged"
    assert library["detail"] == "some.library"
    assert uncaught["exception"].startswith("KeyError at ")
    assert logging.getLogger("t").name == "t"

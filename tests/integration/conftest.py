"""Fixtures of this folder."""

from tests.measuring_kit import (  # noqa: F401 - pytest finds fixtures by name
    dicom_heads,
    png_slices,
    shipped_copy,
    untrained,
)
from tests.worklist_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    database_url,
    databases,
    engine_name,
    hand_clock,
    open_worklist,
    worklist,
)

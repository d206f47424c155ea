"""Fixtures of this folder."""

from tests.worklist_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    database_url,
    databases,
    engine_name,
    hand_clock,
    open_worklist,
    worklist,
)

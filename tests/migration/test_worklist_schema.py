"""The migrations make the schema that the code expects, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from ichnode.domain.errors import SchemaMismatch, WorklistDown
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.tables import Base
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import Databases
from tests.worklist_kit import POLICY, slices


@pytest.fixture
def empty_url(databases: Databases, engine_name: str) -> Iterator[str]:
    """The address of a database without any table."""
    url = databases.empty(engine_name)
    yield url
    databases.drop(url)


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    """An engine on an empty database."""
    engine = connect(empty_url)
    yield engine
    engine.dispose()


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def checks(engine: Engine) -> dict[str, set[str]]:
    """The names of the CHECK constraints of every table: Alembic does not compare them."""
    found = inspect(engine)
    return {
        table: {str(one["name"]) for one in found.get_check_constraints(table)}
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def revisions() -> list[str]:
    scripts = ScriptDirectory(str(schema.migrations()))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def test_the_migrated_schema_is_the_declared_one(
    engine: Engine, databases: Databases, engine_name: str
) -> None:
    """Tables, columns, keys, indexes and checks agree with what the code declares."""
    schema.upgrade(engine)
    assert differences(engine) == []
    declared = connect(databases.empty(engine_name))
    Base.metadata.create_all(declared)
    assert checks(declared) == checks(engine)
    declared.dispose()


def test_every_revision_goes_up(engine: Engine) -> None:
    """One step at a time arrives where one leap does."""
    for revision in revisions():
        schema.upgrade(engine, revision)
        assert schema.current(engine) == revision
    assert schema.current(engine) == schema.head()
    schema.check(engine)


def test_rows_survive_a_repeated_upgrade(engine: Engine) -> None:
    """Upgrading what is up to date changes nothing."""
    schema.upgrade(engine)
    worklist = Worklist(engine, POLICY)
    worklist.record(slices(2))
    schema.upgrade(engine)
    assert len(worklist.views.reading_list()) == 1


def test_an_empty_database_is_refused_with_the_remedy(engine: Engine) -> None:
    """The message says what to run."""
    with pytest.raises(SchemaMismatch, match="run: ichnode db upgrade"):
        schema.check(engine)


def test_a_newer_database_is_refused(engine: Engine) -> None:
    """An old program does not touch what it does not understand."""
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (schema.check, schema.upgrade):
        with pytest.raises(SchemaMismatch, match="9999"):
            act(engine)


def test_two_upgrades_at_once_are_one(empty_url: str) -> None:
    """Whoever comes second finds the work done."""
    engines = [connect(empty_url) for _ in range(3)]
    start = threading.Barrier(len(engines))

    def upgrade(engine: Engine) -> str | None:
        start.wait()
        schema.upgrade(engine)
        return schema.current(engine)

    with ThreadPoolExecutor(len(engines)) as pool:
        assert {schema.head()} == set(pool.map(upgrade, engines))
    for engine in engines:
        engine.dispose()


def test_all_roles_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Each waits until the one before it has made the file what it is to be."""
    roles = 6
    start = threading.Barrier(roles)

    def journal(url: str) -> str:
        engine = connect(url)
        start.wait()
        with engine.connect() as connection:
            found = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
        engine.dispose()
        return found

    with ThreadPoolExecutor(roles) as pool:
        for number in range(50):
            url = f"sqlite:///{tmp_path}/{number}.db"
            assert set(pool.map(journal, [url] * roles)) == {"wal"}


def test_a_missing_server_is_no_schema_question() -> None:
    """A database that does not answer is down, not of another version."""
    with pytest.raises(WorklistDown):
        schema.check(connect("postgresql://nobody@127.0.0.1:1/none"))


def test_the_database_refuses_what_must_not_be(engine: Engine) -> None:
    """Invariants are constraints: a state that does not exist cannot be written."""
    schema.upgrade(engine)
    worklist = Worklist(engine, POLICY)
    worklist.record(slices(2))
    for wrong in (
        "UPDATE series SET analysis = 'cured'",
        "UPDATE series SET analysis = 'negative'",  # without an analysis that says so
        "UPDATE series SET due_at = NULL, urgency_at = NULL",  # pending, and never looked at
        "UPDATE series SET lease_token = 'x'",  # a lease without an end
        "UPDATE study SET band = 'urgent'",  # a band without its rank
        "INSERT INTO instance SELECT * FROM instance",
    ):
        with pytest.raises(Exception, match=r"(?i)constraint"), engine.begin() as connection:
            connection.execute(text(wrong))

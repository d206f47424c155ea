"""A migrated, empty database of either engine for each test, cloned from a template."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import POLICY, HandClock

OpenWorklist = Callable[..., Worklist]


class Databases:
    """Hands out addresses of databases; the first of an engine is migrated, the rest are copies."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._folder, self._request = folder, request
        self._numbers = itertools.count(1)
        # Each folder of tests has an instance of its own, and all of them share the server.
        self._prefix = f"worklist_{uuid.uuid4().hex[:8]}_"
        self._ready = False
        self._template: Path | None = None
        self._server: Engine | None = None

    def empty(self, name: str) -> str:
        """The address of a database without a schema."""
        if name == "sqlite":
            return f"sqlite:///{self._folder / f'empty{next(self._numbers)}.db'}"
        return self._create("template0")

    def migrated(self, name: str) -> str:
        """The address of an empty database with the schema of today."""
        if name == "sqlite":
            copy = self._folder / f"copy{next(self._numbers)}.db"
            shutil.copy(self._sqlite_template(), copy)
            return f"sqlite:///{copy}"
        return self._create(self._postgres_template())

    def _sqlite_template(self) -> Path:
        if self._template is None:
            self._template = self._folder / "template.db"
            engine = connect(f"sqlite:///{self._template}")
            schema.upgrade(engine)
            engine.dispose()
        return self._template

    def _create(self, template: str) -> str:
        name = f"{self._prefix}{next(self._numbers)}"
        with self._maintenance().connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return str(self._request.getfixturevalue("postgres_server").get_uri(name))

    def _postgres_template(self) -> str:
        name = f"{self._prefix}template"
        if not self._ready:
            with self._maintenance().connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
            engine = connect(self._request.getfixturevalue("postgres_server").get_uri(name))
            schema.upgrade(engine)
            engine.dispose()
            self._ready = True
        return name

    def _maintenance(self) -> Engine:
        if self._server is None:
            server = self._request.getfixturevalue("postgres_server")
            engine = connect(server.get_uri())
            self._server = engine.execution_options(isolation_level="AUTOCOMMIT")
            with self._server.connect() as connection:
                # No test pulls the plug on this server; hundreds of databases are made on it.
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
                connection.execute(text("SELECT pg_reload_conf()"))
        return self._server

    def drop(self, url: str) -> None:
        """Remove a database, connections and all."""
        name = make_url(url).database
        if self._server is not None and url.startswith("postgresql"):
            with self._server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def close(self) -> None:
        if self._server is not None:
            self._server.dispose()


@pytest.fixture(scope="session")
def databases(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Databases]:
    """Databases of both engines."""
    found = Databases(tmp_path_factory.mktemp("databases"), request)
    yield found
    found.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.peer)])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Either engine."""
    return str(request.param)


@pytest.fixture
def database_url(databases: Databases, engine_name: str) -> Iterator[str]:
    """The address of a migrated, empty database."""
    url = databases.migrated(engine_name)
    yield url
    databases.drop(url)


@pytest.fixture
def hand_clock() -> HandClock:
    """A clock that the test moves."""
    return HandClock()


@pytest.fixture
def open_worklist(database_url: str, hand_clock: HandClock) -> Iterator[OpenWorklist]:
    """Open the test's database with a policy; several at once behave like several processes."""
    opened = []

    def open_(policy: Policy = POLICY, *, real_time: bool = False) -> Worklist:
        clock = None if real_time else hand_clock
        opened.append(Worklist(connect(database_url), policy, clock))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def worklist(open_worklist: OpenWorklist) -> Worklist:
    """A worklist with one destination on this machine."""
    return open_worklist()

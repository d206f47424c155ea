"""The door of the room: one object with everything that may be asked of the worklist."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from ichnode.domain.clock import Clock
from ichnode.worklist.analyses import AnalysisQueue
from ichnode.worklist.cases import Cases
from ichnode.worklist.commitments import Commitments
from ichnode.worklist.deliveries import Outbox
from ichnode.worklist.documents import DocumentQueue
from ichnode.worklist.history import ModelHistory
from ichnode.worklist.labels import LabelBook
from ichnode.worklist.orders import OrderBook
from ichnode.worklist.people import People
from ichnode.worklist.policy import Policy
from ichnode.worklist.reconciling import Reconciling
from ichnode.worklist.recording import Recording
from ichnode.worklist.retention import Retention
from ichnode.worklist.shadows import Challenger, ShadowQueue
from ichnode.worklist.stranded import Stranded
from ichnode.worklist.tasks import Tasks
from ichnode.worklist.transactions import Database
from ichnode.worklist.views import Views
from ichnode.worklist.wakeup import Wakeup


class Worklist(Recording, People, Retention):
    """What arrived, what became of it, and what is still owed.

    Each method is one transaction. Safe to use from many threads and processes at once.

    Parameters
    ----------
    engine : Engine
        From `ichnode.worklist.engine.connect`, with a schema that `schema.check` passed.
    policy : Policy
        How it decides.
    clock : Clock, optional
        Tells the time instead of the database's clock; tests hand in one that they move.

    Attributes
    ----------
    analyses : AnalysisQueue
        For infer.
    documents : DocumentQueue
        For report.
    deliveries : Outbox
        For send; see `outbox` for one that knows which destinations are shut.
    views : Views
        Everything that is shown.
    labels : LabelBook
        What people say is true.
    orders : OrderBook
        What other systems say of orders, reports and patients.
    cases : Cases
        Consecutive studies, for validation and training.
    history : ModelHistory
        What happened to the models.
    tasks : Tasks
        The list as others ask for it: reading tasks.
    commitments : Commitments
        What destinations answer for.
    reconciling : Reconciling
        What an archive has and what did not come.
    stranded : Stranded
        Deliveries that no destination takes any more.
    """

    def __init__(self, engine: Engine, policy: Policy, clock: Clock | None = None) -> None:
        database = Database(engine, clock)
        Recording.__init__(self, database, policy)
        self.analyses = AnalysisQueue(database, policy)
        self.documents = DocumentQueue(database, policy)
        self.deliveries = Outbox(database, policy)
        self.views = Views(database, policy)
        self.labels = LabelBook(database)
        self.orders = OrderBook(database, policy)
        self.cases = Cases(database)
        self.history = ModelHistory(database)
        self.tasks = Tasks(database, policy)
        self.commitments = Commitments(database, policy)
        self.reconciling = Reconciling(database)
        self.stranded = Stranded(database, policy)

    def outbox(self, shut: Callable[[], frozenset[str]]) -> Outbox:
        """Return the queue of deliveries that leaves alone what `shut` says at each claim."""
        return Outbox(self._database, self._policy, shut)

    def shadow(self, challenger: Callable[[], Challenger | None] = lambda: None) -> ShadowQueue:
        """Return the queue of the shadow, for the challenger that is named at each claim."""
        return ShadowQueue(self._database, self._policy, challenger)

    def wakeup(self) -> Wakeup:
        """Return a hint to wait on between two looks at a queue; one per loop."""
        return Wakeup(self._database.engine)

    def close(self) -> None:
        """Close the connections."""
        self._database.engine.dispose()

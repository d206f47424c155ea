"""What is asked at the door beside storing: who may, which contexts that opens, and who answers.

The services themselves are handed in; the receiver sees to it that they cost the scanners nothing
but a bounded part of its time, and that what is refused is seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from pynetdicom.presentation import PresentationContext

from ichnode.domain.tasks import Answer
from ichnode.imaging.commitment import PUSH_MODEL
from ichnode.receive.admission import (
    PLAIN,
    VERIFICATION,
    Application,
    is_storage,
    transfer_syntaxes,
)
from ichnode.receive.assembly import TooLong
from ichnode.receive.intake import OUT_OF_RESOURCES, Caller

NOT_AUTHORIZED = 0x0124  # PS3.7 C.5.12
COURTESY = 3.0
LONGEST_PAUSE_S = 0.1


class Services(Protocol):
    """What answers at our door beside the Storage and Verification SCP."""

    max_associations: int

    @property
    def classes(self) -> frozenset[str]:
        """The SOP classes that are answered, to those who may ask."""
        ...

    def objection(self, calling_ae: str, address: str) -> str:
        """Say why a peer may not ask; empty where it may."""
        ...

    def answer(
        self,
        calling_ae: str,
        request: Any,
        abstract_syntax: str,
        transfer_syntax: str,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        """Yield the responses to a request, the last one final."""
        ...

    def refusal(self, request: Any, status: int, sentence: str) -> Answer:
        """Return the response that refuses a request."""
        ...


class Refuse(Protocol):
    """Has a refusal logged and shown; see `ichnode.receive.intake.Intake.refuse`."""

    def __call__(
        self,
        caller: Caller,
        status: int,
        sentence: str,
        sop_class_uid: str = "",
        *,
        what: str = "instance",
    ) -> int:
        """Return the status."""
        ...


class Questions:
    """Lets those ask who may, and has them answered.

    Parameters
    ----------
    services : Services or None
        Who answers; None answers nobody.
    refuse : Refuse
        Has a refusal shown.
    is_storing : callable
        Whether images are coming in just now: answers make way for them.
    """

    def __init__(
        self,
        services: Services | None,
        refuse: Refuse,
        is_storing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._services, self._refuse, self._is_storing = services, refuse, is_storing

    @property
    def max_associations(self) -> int:
        """How many of those who ask may be in at a time."""
        return self._services.max_associations if self._services is not None else 0

    def noted(self, application: Application, caller: Caller) -> Application:
        """Note what a peer wants to ask and may; what it may not shows among the refusals."""
        if self._services is None:
            return application
        questions = application.abstract_syntaxes & self._services.classes
        if not questions:
            return application
        objection = self._services.objection(caller.calling_ae, caller.address)
        if objection:
            self._refuse(caller, 0, objection)
            return application
        return replace(application, questions=questions)

    def answer(
        self,
        application: Application,
        caller: Caller,
        request: Any,
        context: Any,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer] | None:
        """Yield the answers to a request; None where it is of no service of theirs.

        Raises
        ------
        ValueError
            For a request that is too long, and for nobody.
        """
        sop_class, is_too_long = str(context.abstract_syntax), isinstance(request, TooLong)
        if self._services is None or sop_class not in application.questions:
            if is_too_long:
                raise ValueError("a request that is too long, and for nobody")
            return None
        if is_too_long:
            sentence = "The data set of the request is longer than any that makes sense."
            answers = iter((self._services.refusal(request.request, OUT_OF_RESOURCES, sentence),))
        elif objection := self._services.objection(caller.calling_ae, caller.address):
            # The outputs were closed while the association stood.
            answers = iter((self._services.refusal(request, NOT_AUTHORIZED, objection),))
        else:
            syntax = str(context.transfer_syntax[0])
            answers = self._services.answer(
                caller.calling_ae, request, sop_class, syntax, is_canceled
            )
        return self._seen(caller, sop_class, answers)

    def _seen(self, caller: Caller, sop_class: str, answers: Iterator[Answer]) -> Iterator[Answer]:
        """Pass answers on, and have those shown to people that are to be seen.

        While images come in, each answer is followed by a pause of `COURTESY` times what it took,
        its sending included: the interpreter is theirs.
        """
        used_s = time.thread_time()
        for answer in answers:
            if answer.complaint:
                self._refuse(caller, answer.status, answer.complaint, sop_class, what="request")
            yield answer
            if self._is_storing():
                time.sleep(min((time.thread_time() - used_s) * COURTESY, LONGEST_PAUSE_S))
            used_s = time.thread_time()


def acceptable(
    proposed: list[PresentationContext], questions: frozenset[str], *, reports: bool = False
) -> list[PresentationContext]:
    """Return what may be accepted of what a peer proposes: verification, and all that can be kept.

    Made for each association instead of once for all, since private and unknown SOP classes are
    accepted too, and because a list of every class and syntax takes milliseconds to copy. Storage
    commitment is accepted for its `reports` only, of a peer in the role of its SCP (PS3.7 D.3.3.4)
    or one that negotiates no roles.
    """
    wanted = questions | {VERIFICATION, *((PUSH_MODEL,) if reports else ())}
    offered: dict[str, list[str]] = {}
    for context in proposed:
        abstract = str(context.abstract_syntax)
        if abstract in wanted or is_storage(abstract):
            offered.setdefault(abstract, []).extend(str(s) for s in context.transfer_syntax)
    acceptable = []
    for abstract, syntaxes in offered.items():
        usable = transfer_syntaxes(syntaxes)
        if abstract in questions:
            usable = [one for one in usable if one in PLAIN]
        if usable:
            context = PresentationContext()
            context.abstract_syntax = abstract
            context.transfer_syntax = usable
            if abstract == PUSH_MODEL:
                context.scu_role, context.scp_role = False, True
            acceptable.append(context)
    return acceptable

"""A node's loop: take a message, check who asks and for what, let the trainer answer, send that.

It holds neither data nor torch. What it refuses is answered by a signed refusal with one word of
why, so that both administrators can read it: here in the journal, there beside the round.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import httpx

from cloister_client.fleet.link import Envelope
from cloister_client.fleet.messages import (
    ACTIONS,
    CRASHED,
    Bundle,
    LostError,
    Question,
    ShutOutError,
)
from cloister_client.fleet.pauses import Losses, Polls
from cloister_client.fleet.trainer import TrainerDied
from cloister_shared.bundles import ACCEPTED, check_bundle, check_settings
from cloister_shared.errors import PolicyError
from cloister_shared.journal import Event, Journal
from cloister_shared.messages import Refusal, pack_signed
from cloister_shared.patience import patiently
from cloister_shared.requests import check_request
from cloister_shared.signing import SigningKey

GRACE_S = 300.0
"""How long after a request's end its answer is waited for: the ledger keeps it for another time."""
_LONGEST_S = 86400.0
"""No request has more time than a day, whatever end its coordinator names."""
_SHUT_OUT_S = 5.0
_RUNS_KNOWN = 16

Answer = TypeVar("Answer")
_LOG = logging.getLogger(__name__)


class Link(Protocol):
    """What the loop needs of :class:`cloister_client.fleet.link.FleetLink`."""

    @property
    def clock_offset_s(self) -> float:
        """By how much the coordinator's clock is ahead."""

    def now(self) -> float:
        """The coordinator's time."""

    @property
    def node_id(self) -> int:
        """What Flower calls this node."""

    def connect(self) -> None:
        """Be there for the coordinator."""

    def beat(self, wait: Callable[[float], bool]) -> None:
        """Send heartbeats until ``wait`` says that it is over."""

    def pull(self) -> Envelope | None:
        """The next message."""

    def bundle(self, run: int) -> Bundle:
        """What a run was started with."""

    def open(self, envelope: Envelope) -> Question:
        """The content of a message."""

    def reply(self, envelope: Envelope, body: bytes) -> None:
        """Answer a message."""

    def fail(self, envelope: Envelope, code: int) -> None:
        """Answer a message with an error of the transport."""


class Trainer(Protocol):
    """What the loop needs of :class:`cloister_client.fleet.trainer.TrainerProcess`."""

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        """The node's answer; ``TrainerDied`` if there is none, or none in time."""


@dataclass
class Checks:
    """Whether this node answers: to runs of known releases, to its own coordinator.

    ``coordinator`` is the public key that was pinned when the node joined. ``name`` and ``key`` are
    the node's: it signs its refusals.
    """

    coordinator: str
    name: str
    key: SigningKey
    accepted: Mapping[str, str] = field(default_factory=lambda: ACCEPTED)
    _runs: "OrderedDict[int, str]" = field(default_factory=OrderedDict)

    def run(self, number: int, bundle: Callable[[int], Bundle]) -> str:
        """Our name of Flower's run ``number``; ``PolicyError`` if it was not started as ours are.

        A run's bundle is asked for once, with its first message.
        """
        if number not in self._runs:
            found = bundle(number)
            check_bundle(found.content, found.claimed, self.accepted)
            self._runs[number] = check_settings(found.settings)
            while len(self._runs) > _RUNS_KNOWN:
                self._runs.popitem(last=False)
        return self._runs[number]

    def question(self, question: Question, now: float) -> float:
        """How many seconds are left for this, at ``now`` by the coordinator's clock.

        Raises ``PolicyError`` unless the coordinator itself asks it, of this node, today.
        """
        return check_request(question.body, question.signed, self.coordinator, self.name, now) - now

    def refusal(self, code: str) -> bytes:
        """What the coordinator is told."""
        refusal = Refusal(plan="", round=0, node=self.name, code=code)
        return pack_signed(refusal, {}, self.key)


class FleetLoop:
    """Answers the coordinator until :meth:`stop`; survives its absence and its trainer's death."""

    def __init__(self, link: Link, trainer: Trainer, checks: Checks, journal: Journal) -> None:
        self._link = link
        self._trainer = trainer
        self._checks = checks
        self._journal = journal
        self._over = threading.Event()
        self._polls = Polls()
        self._losses = Losses()
        self._away = ""

    def stop(self) -> None:
        """End :meth:`run` after the message at hand."""
        self._over.set()

    def run(self) -> None:
        """Connect, then take one message after another."""
        threading.Thread(
            target=self._link.beat, args=(self._over.wait,), name="heartbeat", daemon=True
        ).start()
        connected = False
        while not self._over.is_set():
            try:
                if not connected:
                    self._asked(self._link.connect)
                    connected = True
                    self._note_connected()
                self._once()
            except ShutOutError:
                connected = False
                self._note_away("shut_out")
                self._over.wait(_SHUT_OUT_S)
            except LostError as error:
                self._note_lost(error)
                self._over.wait(self._losses.pause_s())
            except httpx.HTTPError as error:
                # Whatever passes was tried until the end, see _asked.
                _LOG.info("ended while the coordinator was away (%s)", type(error).__name__)

    def _once(self) -> None:
        """One look for a message, and its answer if there is one."""
        began = time.monotonic()
        envelope = self._asked(self._link.pull)
        now = time.monotonic()
        if envelope is None:
            self._over.wait(self._polls.pause_s(now, now - began))
            return
        self._polls.busy(now)
        self._answer(envelope)
        self._losses.none()
        self._polls.busy(time.monotonic())

    def _answer(self, envelope: Envelope) -> None:
        began, action = time.monotonic(), ACTIONS.get(envelope.kind, "unknown")
        try:
            run, question, left_s = self._checked(envelope)
            within_s = min(left_s, _LONGEST_S) + GRACE_S
            answer = self._trainer.ask(action, _frames(action, question), within_s)
        except PolicyError as error:
            self._journal.write(
                Event.REFUSED, code=error.code, action=action, round=_round(envelope)
            )
            _LOG.warning("refused (%s): %s", error.code, error)
            refusal = self._checks.refusal(error.code)
            self._asked(lambda: self._link.reply(envelope, refusal))
        except TrainerDied as death:
            self._journal.write(
                Event.REFUSED, code=death.code, action=action, round=_round(envelope)
            )
            self._asked(lambda: self._link.fail(envelope, CRASHED))
        else:
            self._asked(lambda: self._link.reply(envelope, answer))
            self._journal.write(
                Event.ANSWERED,
                action=action,
                run=run,
                round=_round(envelope),
                seconds=round(time.monotonic() - began, 3),
                bytes_in=len(question.body),
                bytes_out=len(answer),
            )

    def _checked(self, envelope: Envelope) -> tuple[str, Question, float]:
        """The run's name, the request, and how many seconds are left for it.

        Raises ``PolicyError`` for any that is not to be answered.
        """
        run = self._checks.run(
            envelope.run, lambda number: self._asked(lambda: self._link.bundle(number))
        )
        if envelope.kind not in ACTIONS:
            raise PolicyError("a node knows no such message", "message")
        question = self._asked(lambda: self._link.open(envelope))
        return run, question, self._checks.question(question, self._link.now())

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """The answer, as soon as the network and the coordinator give one."""
        answer = patiently(ask, self._passes, self._over.wait)
        if self._away:
            self._note_connected()
        return answer

    def _passes(self, error: Exception) -> bool:
        if isinstance(error, httpx.TransportError):
            self._note_away("network")
            return True
        if isinstance(error, httpx.HTTPStatusError):
            self._note_away(f"http_{error.response.status_code}")
            return True
        return False

    def _note_away(self, code: str) -> None:
        """Tell once why the coordinator cannot be had."""
        if self._away != code:
            self._journal.write(Event.DISCONNECTED, code=code)
        self._away = code

    def _note_lost(self, error: LostError) -> None:
        """Tell why a message was lost, now and then."""
        if self._losses.is_news(time.monotonic()):
            self._journal.write(Event.REFUSED, code="lost")
            _LOG.warning("%s", error)

    def _note_connected(self) -> None:
        self._away = ""
        self._journal.write(
            Event.CONNECTED,
            node_id=str(self._link.node_id),
            clock_offset_s=round(self._link.clock_offset_s, 1),
        )


def _frames(action: str, question: Question) -> tuple[bytes, ...]:
    """What the trainer gets: a release has no receipts beside it."""
    if action == "release":
        return (question.body,)
    return question.body, question.receipts


def _round(envelope: Envelope) -> int:
    """What the message's group says, for the journal; 0 for a release and for nonsense."""
    group = envelope.metadata.group_id
    return int(group) if group.isdecimal() and len(group) < 10 else 0

"""What the coordinator knows of the nodes, for all runs of a folder: keys, and how ledgers end.

A node sends the signed head of its ledger with everything that it releases. The notary keeps the
last one and countersigns it: nodes get these receipts with every request, and so notice themselves
when their ledger is an older copy, or one of two.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import Field

from cloister_server.locked_document import LockedDocument
from cloister_shared.errors import MessageError
from cloister_shared.frozen import Frozen
from cloister_shared.messages import Answer, Refusal, Reply, is_authentic
from cloister_shared.model_specs import Weights
from cloister_shared.privacy.ledger_format import HeadReceipt, SignedHead
from cloister_shared.secret_files import read_signing_key, write_secret
from cloister_shared.signing import SigningKey

REGISTER, KEY = "notary.json", "coordinator.key"
"""What the notary keeps in the folder of the runs."""
RESTORED = "restored"
"""The refusal of a node whose ledger was put back from a backup: it asks for a receipt."""


Approved = Callable[[str], str | None]
"""The signing key of the node of this name that is approved now; ``None`` if there is none."""


class RejectedError(MessageError):
    """A reply does not count; ``str`` is the reason, which names no learner."""


class RefusedError(RejectedError):
    """A node declined, and said so as it should."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"refused: {refusal.code}")
        self.refusal = refusal


class End(Frozen):
    """Where a ledger ended: how many entries it had, and the digest of the last."""

    length: int = Field(ge=0)
    digest: str


class KnownNode(Frozen):
    """What is remembered of one node for good.

    ``ledger`` and ``last`` are of its ledger; a simulated participant may have none. ``runs`` holds
    the end that came with each run's last answer, ``nonce`` the RESTORE that waits for a receipt.
    """

    key: str
    ledger: str = ""
    last: End | None = None
    runs: dict[str, End] = Field(default_factory=dict)
    counter: int = Field(default=0, ge=0)
    nonce: str = ""


class _Register(Frozen):
    nodes: dict[str, KnownNode]


class Notary:
    """Keeps what is known of the nodes in ``path``, or for its own life only if there is none.

    Whoever comes first with a name keeps it, with key and ledger. In a consortium nobody can be the
    first: ``approved`` is asked each time, so that who was revoked counts no more from then on.
    ``key`` signs the receipts. Several processes may share a file. Raises ``ConfigError`` if it
    cannot be read.
    """

    def __init__(
        self, path: Path | None, key: SigningKey, approved: Approved | None = None
    ) -> None:
        empty = _Register(nodes={})
        self._key = key
        self._approved = approved
        self._register = _Passing(empty) if path is None else LockedDocument(path, empty)
        self._register.read()

    @classmethod
    def of_folder(cls, directory: Path) -> "Notary":
        """That of all runs in ``directory``; its key is made at first use."""
        return cls(directory / REGISTER, _signing_key(directory / KEY))

    @classmethod
    def passing(cls) -> "Notary":
        """One that keeps nothing, for simulated nodes whose ledgers do not outlive it either."""
        return cls(None, SigningKey.generate())

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all nodes that took part so far, in a consortium of those still approved."""
        keys = {name: one.key for name, one in self._nodes.items()}
        if self._approved is not None:
            keys = {name: key for name, key in keys.items() if self._approved(name) == key}
        return frozenset(keys.values())

    @property
    def known(self) -> dict[str, KnownNode]:
        """What is known of each node, by name."""
        return dict(self._nodes)

    def check(self, reply: Reply, arrays: Weights) -> None:
        """Raise ``RejectedError`` unless the owner of the reply's name said exactly this."""
        if not is_authentic(reply, arrays):
            raise RejectedError("its signature does not fit: it was altered or forged")
        if self._approved is not None and self._approved(reply.node) != reply.key:
            raise RejectedError("is not signed with the key of an approved node of this name")
        known = self._nodes.get(reply.node)
        if known is not None and known.key != reply.key:
            raise RejectedError("is not signed with the key that this node had before")

    def check_head(self, answer: Answer, run: str) -> None:
        """Raise ``RejectedError`` unless the ledger went on since the node's last answer.

        The last answer of the same ``run`` may come once more, with the head that it had.
        """
        head, known = answer.head, self._nodes.get(answer.node)
        if head is not None and not head.is_signed_by(answer.key):
            raise RejectedError("the head of its ledger is not signed with its key")
        if known is None:
            return
        if head is None or known.last is None:
            if (head is None) != (known.last is None):
                raise RejectedError("has a ledger now and had none, or the other way round")
            return
        if head.ledger != known.ledger:
            raise RejectedError(
                "has another ledger than before: one that was made anew has forgotten what was "
                "spent"
            )
        if head.length <= known.last.length and _end(head) != known.runs.get(run):
            raise RejectedError(
                f"went back to entry {head.length} of its ledger, {known.last.length} were there: "
                "an older copy, or one of two copies"
            )

    def learn(self, answers: Iterable[Answer], run: str) -> None:
        """Remember, on disk, whose names these are and how their ledgers end; all were checked."""
        learned = tuple(answers)
        self._keep(
            lambda nodes: {one.node: _after(nodes.get(one.node), one, run) for one in learned}
        )

    def hear(self, refusal: Refusal) -> None:
        """Prepare a receipt for a node that we know, if it says that its ledger was put back."""
        self._keep(lambda nodes: _asking(nodes.get(refusal.node), refusal))

    def receipts(self) -> dict[str, HeadReceipt]:
        """How each node's ledger was seen last, countersigned; the same until more is known."""
        return {
            name: self._receipt(known, known.last)
            for name, known in self._nodes.items()
            if known.last is not None
        }

    def _receipt(self, known: KnownNode, last: End) -> HeadReceipt:
        blank = HeadReceipt(
            witness=self._key.public,
            counter=known.counter,
            ledger=known.ledger,
            length=last.length,
            digest=last.digest,
            nonce=known.nonce,
        )
        return blank.signed(self._key)

    @property
    def _nodes(self) -> dict[str, KnownNode]:
        return self._register.read().nodes

    def _keep(self, news: Callable[[dict[str, KnownNode]], dict[str, KnownNode]]) -> None:
        """Write what ``news`` makes of what is known, if it is any."""

        def changed(register: _Register) -> _Register:
            return _Register(nodes={**register.nodes, **news(register.nodes)})

        now = self._register.read()
        if changed(now) != now:
            self._register.change(changed)


class _Passing:
    """What :class:`LockedDocument` is, without a file."""

    def __init__(self, register: _Register) -> None:
        self._register = register

    def read(self) -> _Register:
        return self._register

    def change(self, change: Callable[[_Register], _Register]) -> _Register:
        self._register = change(self._register)
        return self._register


def _after(known: KnownNode | None, answer: Answer, run: str) -> KnownNode:
    """What is known once an answer came; another run may have learned of more since its check."""
    known = known or KnownNode(key=answer.key)
    head = answer.head
    if head is None or _end(head) == known.runs.get(run):
        return known
    went_on = known.last is None or head.length > known.last.length
    return KnownNode(
        key=known.key,
        ledger=head.ledger,
        last=_end(head) if went_on else known.last,
        runs={**known.runs, run: _end(head)},
        counter=known.counter + 1,
    )


def _asking(known: KnownNode | None, refusal: Refusal) -> dict[str, KnownNode]:
    """The node with what its refusal asks for; nothing if it asks for nothing, or is not ours."""
    head = refusal.head
    if known is None or head is None or refusal.code != RESTORED:
        return {}
    ours = (known.key, known.ledger) == (refusal.key, head.ledger)
    if not (ours and head.is_signed_by(known.key)) or head.digest == known.nonce:
        return {}
    asked = {"nonce": head.digest, "counter": known.counter + 1}
    return {refusal.node: known.model_copy(update=asked)}


def _end(head: SignedHead) -> End:
    return End(length=head.length, digest=head.digest)


def _signing_key(path: Path) -> SigningKey:
    """The key in ``path``; a fresh one, whole or not at all, where there is none."""
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        write_secret(partial, SigningKey.generate().to_bytes())
        partial.rename(path)
    return read_signing_key(path)

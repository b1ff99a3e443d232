"""The documents of the release chain: entries, header, signed head, and the export of them all.

RESERVE is written before data is read and is the charge; START and COMMIT (METRIC, of evaluation
learners) say how far it got and never give anything back. Every entry holds the digest of the one
before it, the first that of the header, and the head's signature covers the last: who cannot sign
cannot add, drop or change one. RESTORE says that the ledger was put back from a backup, LIFT that a
witness knows of nothing that it has forgotten.
"""

import hashlib
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator

from cloister_shared.canonical import canonical_json, digest
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import cost
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.events import Event
from cloister_shared.signing import PUBLIC_DIGITS, SigningKey, is_signed

Role = Literal["train", "evaluation"]
ROLES: tuple[Role, ...] = ("train", "evaluation")
Group = tuple[Role, str]
"""A role and a cohort: the learners that are charged together."""
RoundKey = tuple[str, int, Role]
"""A run, one of its rounds, and the role it reads: what is released once."""
RELEASE_KIND: dict[Role, Literal["COMMIT", "METRIC"]] = {"train": "COMMIT", "evaluation": "METRIC"}
"""How the release of a role's round is called in the chain."""


class ModelEvent(Frozen):
    """An event and the model kind (or metric) it was for."""

    model: str = Field(min_length=1)
    event: Event


class Charge(Frozen):
    """What one release of one round costs every eligible learner of its cohorts."""

    run: str = Field(min_length=1)
    round: int = Field(ge=0)
    plan: str
    request: str
    role: Role = "train"
    cohorts: tuple[str, ...] = Field(min_length=1)
    events: tuple[ModelEvent, ...] = Field(min_length=1)

    @field_validator("cohorts")
    @classmethod
    def _check_cohorts(cls, cohorts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(cohorts)) < len(cohorts):
            raise ValueError("each cohort stands once in a charge")
        return cohorts

    @property
    def round_key(self) -> RoundKey:
        """What this charge is for."""
        return self.run, self.round, self.role

    def cost(self, order: float) -> int | None:
        """Micro-units of RDP at ``order``, over all models together; ``None`` if infinite."""
        return cost([one.event for one in self.events], order)


class Link(Frozen):
    """One line of the release chain. ``previous`` is the digest of the line before it."""

    previous: str

    @property
    def text(self) -> bytes:
        """The line's canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 of the line's text."""
        return hashlib.sha256(self.text).hexdigest()


class Reserve(Link):
    """The charge of one attempt at a round. ``cost`` is in micro-units, ``None`` if infinite.

    ``personal`` commits to the node's personal chain as it was then: the SHA-256 of a fresh salt
    of 32 bytes and of the chain's last digest. Without the salt it tells nothing, not even whether
    anything was added since the last RESERVE.
    """

    kind: Literal["RESERVE"] = "RESERVE"
    charge: Charge
    cost: int | None = Field(ge=0)
    code_version: str
    personal: str


class Start(Link):
    """Learners are about to be read under the charge of entry number ``of``."""

    kind: Literal["START"] = "START"
    of: int = Field(ge=0)


class Commit(Link):
    """What entry number ``of`` was charged for may be sent: bytes with this SHA-256.

    METRIC where learners of the evaluation role were read.
    """

    kind: Literal["COMMIT", "METRIC"]
    of: int = Field(ge=0)
    payload_digest: str


MAX_DIGITS = 64
"""Of a ledger's name and of a digest: all nodes are told what one said of these."""


class Signed(Frozen):
    """A document about the first ``length`` entries of a ledger, and its signature.

    ``digest`` is the last of these entries', the header's where there is none.
    """

    purpose: ClassVar[str]
    """Keeps a signature under one kind of document from fitting another."""
    ledger: str = Field(max_length=MAX_DIGITS)
    length: int = Field(ge=0, le=2**53)
    digest: str = Field(max_length=MAX_DIGITS)
    signature: str = ""

    def signed(self, key: SigningKey) -> Self:
        """This document with its signature."""
        return self.model_copy(update={"signature": key.sign(self._content)})

    def is_signed_by(self, public: str) -> bool:
        """Whether the holder of the key ``public`` signed this document."""
        return is_signed(self._content, self.signature, public)

    @property
    def _content(self) -> bytes:
        fields = self.model_dump(mode="json", exclude={"signature"})
        return canonical_json({"type": self.purpose, **fields})


class SignedHead(Signed):
    """Where a ledger ends; signed with the ledger's key."""

    purpose = "ledger_head"


class HeadReceipt(Signed):
    """A witness, the coordinator, has seen the ledger end here; signed with the key ``witness``.

    ``counter`` rises with whatever the witness learns of the ledger. ``nonce`` is the digest of the
    RESTORE that this answers, empty where it answers none.
    """

    purpose = "head_receipt"
    witness: str = Field(pattern=rf"^[0-9a-f]{{{PUBLIC_DIGITS}}}$")
    counter: int = Field(ge=1)
    nonce: str = ""

    @property
    def is_authentic(self) -> bool:
        """Whether the witness said exactly this."""
        return self.is_signed_by(self.witness)


class Restore(Link):
    """The ledger was put back from a backup: what was spent since then is unknown, so all is.

    ``salt``, 64 fresh hex digits, makes each RESTORE another: no answer to one fits the next.
    """

    kind: Literal["RESTORE"] = "RESTORE"
    salt: str


class Lift(Link):
    """The last RESTORE is void: a witness knows of no entry that the backup did not have."""

    kind: Literal["LIFT"] = "LIFT"
    receipt: HeadReceipt


Entry = Annotated[Reserve | Start | Commit | Restore | Lift, Field(discriminator="kind")]


class LedgerHeader(Frozen):
    """What is fixed when a ledger is created."""

    format: Literal[2] = 2
    ledger: str
    """Random identifier of this ledger."""
    key: str
    """Public key that the ledger's heads are signed with."""
    budget: Budget
    order: float
    limit: int
    enforced: bool = True
    """False in simulations without a guarantee: charges are recorded, not refused."""

    @property
    def digest(self) -> str:
        """SHA-256 of the header: what the first entry follows."""
        return digest(self.model_dump(mode="json"))


class GroupBalance(Frozen):
    """What the learners of one role and cohort have spent, in micro-units; ``None`` is infinite."""

    role: Role
    cohort: str
    micro: int | None
    events: tuple[ModelEvent, ...]


class RunSpend(Frozen):
    """What one run was charged in one role and cohort, over ``charges`` reserved rounds.

    Micro-units of RDP at the ledger's order, ``None`` where infinite: of all of them, of the last.
    """

    run: str
    role: Role
    cohort: str
    charges: int
    spent_micro_rdp: int | None
    last_micro_rdp: int | None


class Balance(Signed):
    """What had been spent then: so that nobody must add up every entry to know it.

    ``restored``: whether a RESTORE stood, by which all was.
    """

    purpose = "ledger_balance"
    restored: bool = False
    groups: tuple[GroupBalance, ...]
    runs: tuple[RunSpend, ...]


class LedgerExport(Frozen):
    """Everything an auditor needs."""

    header: LedgerHeader
    entries: tuple[Entry, ...]
    head: SignedHead

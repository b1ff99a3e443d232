"""Who may be read for what: role, consent and erasure, asked afresh in every query."""

from typing import Literal, get_args

from sqlalchemy import ColumnElement, exists, true

from cloister_client.histories import Purpose
from cloister_client.store.tables import learners, wishes
from cloister_shared.privacy.ledger_format import Role

Consent = Literal["opt_out", "opt_in"]
ConsentPurpose = Literal["train", "evaluate", "experiment"]
"""What a learner can say yes or no to, all at once. Serving and audits end with their erasure."""

CONSENT_PURPOSES: tuple[ConsentPurpose, ...] = get_args(ConsentPurpose)
_ROLES: dict[Purpose, Role] = {"train": "train", "evaluate": "evaluation"}


def eligible(purpose: Purpose, default: Consent) -> ColumnElement[bool]:
    """A condition on ``learners``: their role fits, and they consent; the erased have no row."""
    role = learners.c.role == _ROLES[purpose] if purpose in _ROLES else true()
    if purpose not in CONSENT_PURPOSES:
        return role
    mine = wishes.c.tombstone == learners.c.tombstone
    if default == "opt_in":
        return role & exists().where(mine, wishes.c.consent)
    return role & ~exists().where(mine, ~wishes.c.consent)

"""What a node does with a message: validate, admit, charge, train, answer.

Bytes in, bytes out; the transport is in :mod:`cloister_client.flower`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cloister_client.admission import admit
from cloister_client.histories import HistorySource
from cloister_client.installing import Install, install_release
from cloister_client.ledger import Ledger, Reservation
from cloister_client.releases import release_once
from cloister_client.training import train_round
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import (
    BudgetExceededError,
    CloisterError,
    LedgerError,
    MessageError,
    PolicyError,
)
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack_signed,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.ledger_format import Charge, ModelEvent
from cloister_shared.privacy.noise import NoiseSource, SystemNoise
from cloister_shared.privacy.policy import Policy
from cloister_shared.signing import SigningKey

NoiseFactory = Callable[[Plan, int, str], NoiseSource]
"""The noise for one plan, round and model kind."""


def system_noise(plan: Plan, round_number: int, kind: str) -> NoiseSource:
    """The production kind, the same for every round: fresh from the operating system."""
    return SystemNoise()


@dataclass(frozen=True)
class Node:
    """An institution's side of a run.

    ``key`` signs whatever it answers. ``cohorts`` is its public enrolment calendar.
    """

    name: str
    key: SigningKey
    declared_size: int
    curriculum: Curriculum
    policy: Policy
    source: HistorySource
    ledger: Ledger
    install: Install
    cohorts: tuple[str, ...] = ("all",)
    noise: NoiseFactory = system_noise

    def answer_train(self, message: bytes) -> bytes:
        """A contribution, or a refusal that tells nothing about learners."""
        try:
            request, arrays = unpack(message, TrainRequest)
        except MessageError:
            return self._refuse("", 0, "message")
        try:
            return self._contribute(request, arrays, hashlib.sha256(message).hexdigest())
        except CloisterError as error:
            return self._refuse(request.plan.digest, request.round, refusal_code(error))

    def answer_release(self, message: bytes) -> bytes:
        """Install a finished model version for serving, and say that it is there."""
        try:
            release, arrays = unpack(message, Release)
        except MessageError:
            return self._refuse("", 0, "message")
        try:
            install_release(
                release.plan, release.round, split(arrays), self.curriculum, self.install
            )
        except CloisterError as error:
            return self._refuse(release.plan.digest, release.round, refusal_code(error))
        receipt = Receipt(plan=release.plan.digest, round=release.round, node=self.name)
        return pack_signed(receipt, {}, self.key)

    def check_plan(self, plan: Plan) -> None:
        """Raise unless policy and budget allow the whole plan; reads no learner data.

        Raises ``PolicyError``, or ``BudgetExceededError`` with the largest number of rounds that
        would fit. A node refuses for its budget only if no cohort of its calendar could pay.
        """
        self._check_settings(plan)
        header = self.ledger.header
        if header.enforced:
            remaining = max(self.ledger.remaining("train", cohort) for cohort in self.cohorts)
            header.budget.require(plan.events_by_round(), remaining)

    def _check_settings(self, plan: Plan) -> None:
        """Raise unless policy and curriculum allow the plan, whatever was spent."""
        admit(plan, self.name, self.declared_size, self.curriculum.digest, self.policy)
        for model in plan.models:
            model.spec.check_curriculum(self.curriculum)

    def _contribute(self, request: TrainRequest, arrays: Weights, checksum: str) -> bytes:
        plan = request.plan
        weights = _active_weights(request, arrays)
        if self.ledger.has_charges(plan.run, plan.digest):
            self._check_settings(plan)
        else:
            self.check_plan(plan)
        noise = {kind: self._noise(plan, request.round, kind) for kind in weights}
        charge = Charge(
            run=plan.run,
            round=request.round,
            plan=plan.digest,
            request=checksum,
            cohorts=self.cohorts,
            events=plan.charge_events(request.round),
        )
        return release_once(
            self.ledger, charge, lambda granted: self._train(request, weights, noise, granted)
        )

    def _train(
        self,
        request: TrainRequest,
        weights: dict[str, Weights],
        noise: dict[str, NoiseSource],
        reservation: Reservation,
    ) -> tuple[bytes, tuple[ModelEvent, ...]]:
        """The contribution, signed, and what was done for it."""
        deltas: dict[str, Weights] = {}
        events: list[ModelEvent] = []
        for model in request.plan.active(request.round):
            kind = model.spec.kind
            result = train_round(
                weights[kind],
                self.source,
                model.mechanism,
                model.spec,
                noise[kind],
                local=model.local,
                declared_size=self.declared_size,
                cohorts=reservation.charge.cohorts,
            )
            deltas[kind] = result.delta
            events += [ModelEvent(model=kind, event=event) for event in result.events]
        contribution = Contribution(plan=request.plan.digest, round=request.round, node=self.name)
        return pack_signed(contribution, join(deltas), self.key), tuple(events)

    def _noise(self, plan: Plan, round_number: int, kind: str) -> NoiseSource:
        noise = self.noise(plan, round_number, kind)
        if not (noise.has_guarantee or self.policy.allow_without_guarantee):
            raise PolicyError("reproducible noise gives no guarantee", "noise")
        return noise

    def _refuse(self, plan: str, round_number: int, code: str) -> bytes:
        refusal = Refusal(plan=plan, round=round_number, node=self.name, code=code)
        return pack_signed(refusal, {}, self.key)


def _active_weights(request: TrainRequest, arrays: Weights) -> dict[str, Weights]:
    """The arrays by model kind; ``MessageError`` unless they are those that the round trains."""
    active = {model.spec.kind: model.spec for model in request.plan.active(request.round)}
    if not active:
        raise MessageError(f"the plan has {request.plan.rounds} rounds, asked was {request.round}")
    weights = split(arrays)
    if weights.keys() != active.keys():
        raise MessageError(f"round {request.round} trains other models than were sent")
    for kind, spec in active.items():
        check_weights(weights[kind], spec)
    return weights


def refusal_code(error: CloisterError) -> str:
    """The reason that may leave the node: a word, never a text."""
    if isinstance(error, PolicyError | LedgerError):
        return error.code
    if isinstance(error, BudgetExceededError):
        return "budget"
    return "message"

"""What a node does with a message: validate, admit, charge, train, answer.

Bytes in, bytes out; the transport is in :mod:`cloister_client.flower`.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cloister_client.admission import admit, admit_size
from cloister_client.evaluation import evaluate_round
from cloister_client.failures import log_failure
from cloister_client.histories import HistorySource, SilentSource
from cloister_client.installing import Activate, Install, install_release, leave_it
from cloister_client.ledger import RESTORED, Ledger
from cloister_client.releases import Granted, release_once
from cloister_client.residuals import MemoryResiduals, Residuals, compress
from cloister_client.training import train_round
from cloister_shared.compression import Arrays, Compression, decode
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
    EvaluateRequest,
    MetricReport,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack_signed,
    receipt_of,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy.ledger_format import (
    ROLES,
    Charge,
    ModelEvent,
    Role,
)
from cloister_shared.privacy.noise import NoiseSource, SystemNoise
from cloister_shared.privacy.policy import Policy
from cloister_shared.signing import SigningKey

_LOG = logging.getLogger(__name__)

NoiseFactory = Callable[[Plan, int, str], NoiseSource]
"""The noise for one plan, round and event: a model kind, or a kind's metrics."""
Request = TypeVar("Request", TrainRequest, EvaluateRequest)


def system_noise(plan: Plan, round_number: int, kind: str) -> NoiseSource:
    """The production kind, the same for every round: fresh from the operating system."""
    return SystemNoise()


@dataclass(frozen=True)
class Node:
    """An institution's side of a run.

    ``key`` signs whatever it answers. ``cohorts`` is its public enrolment calendar. ``witness`` is
    the coordinator's public key, if it is known from elsewhere than its first receipt.
    ``residuals`` are what compression owes, from one reply to the next.
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
    activate: Activate = leave_it
    witness: str | None = None
    residuals: Residuals = field(default_factory=MemoryResiduals)

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        """A contribution, or a refusal that tells nothing about learners."""
        return self._answer(message, receipts, TrainRequest, self._contribute)

    def answer_evaluate(self, message: bytes, receipts: bytes = b"") -> bytes:
        """Noisy histograms of evaluation learners' scores, or such a refusal."""
        return self._answer(message, receipts, EvaluateRequest, self._report)

    def answer_release(self, message: bytes) -> bytes:
        """Install a finished model version for serving, and say that it is there."""
        try:
            release, arrays = unpack(message, Release)
        except MessageError:
            return self._refuse("", 0, "message")
        try:
            admit_size(release.plan, self.policy)
            install_release(release, split(arrays), self.curriculum, self.witness, self.install)
        except CloisterError as error:
            return self._refuse(release.plan.digest, release.round, refusal_code(error))
        receipt = Receipt(plan=release.plan.digest, round=release.round, node=self.name)
        reply = pack_signed(receipt, {}, self.key)
        # Only now: what becomes of the models here depends on learners' records.
        self._activate(release)
        self.residuals.forget(release.plan.run)
        return reply

    def _activate(self, release: Release) -> None:
        """Put released models into service; whether that fails is this node's own affair.

        What failed is in its log; the models are examined again when the node starts next.
        """
        try:
            self.activate()
        except Exception as error:
            log_failure(error)

    def check_plan(self, plan: Plan) -> None:
        """Raise unless policy and budget allow the whole plan; reads no learner data.

        Raises ``PolicyError``, or ``BudgetExceededError`` with the largest number of rounds that
        would fit. A node refuses for its budget only if no cohort of its calendar could pay, be it
        for training or for metrics.
        """
        self._check_settings(plan)
        header = self.ledger.header
        if header.enforced:
            for role in ROLES:
                remaining = max(self.ledger.remaining(role, cohort) for cohort in self.cohorts)
                header.budget.require(plan.events_by_round(role), remaining)

    def _check_settings(self, plan: Plan) -> None:
        """Raise unless policy and curriculum allow the plan, whatever was spent."""
        admit(plan, self.name, self.declared_size, self.curriculum.digest, self.policy)
        for model in plan.models:
            model.spec.check_curriculum(self.curriculum)

    def _answer(
        self,
        message: bytes,
        receipts: bytes,
        asked: type[Request],
        release: Callable[[Request, Weights, str], bytes],
    ) -> bytes:
        """What ``release`` makes of the request, its arrays and the message's digest.

        Receipts are no part of the digest: asked again, with newer ones, it is the same request.
        """
        try:
            request, arrays = unpack(message, asked)
        except MessageError:
            return self._refuse("", 0, "message")
        try:
            self._acknowledge(receipts)
            return release(request, arrays, hashlib.sha256(message).hexdigest())
        except CloisterError as error:
            _LOG.warning("round %d of run %s: %s", request.round, request.plan.run, error)
            return self._refuse(request.plan.digest, request.round, refusal_code(error))

    def _acknowledge(self, receipts: bytes) -> None:
        """Raise ``LedgerError`` if the coordinator has seen another ledger than this node's."""
        receipt = receipt_of(receipts, self.name)
        if receipt is not None:
            self.ledger.acknowledge(receipt, self.witness)
        self.ledger.require_lifted()

    def _contribute(self, request: TrainRequest, arrays: Weights, checksum: str) -> bytes:
        plan = request.plan
        weights = _weights_of(plan.active(request.round), arrays, plan.compression)
        self._admit(plan)
        events = plan.charge_events(request.round)
        noise = {kind: self._noise(plan, request.round, kind) for kind in weights}
        return release_once(
            self.ledger,
            self._charge(request, "train", events, checksum),
            lambda granted: self._train(request, weights, noise, granted),
        )

    def _report(self, request: EvaluateRequest, arrays: Weights, checksum: str) -> bytes:
        plan = request.plan
        metrics = plan.metrics
        if metrics is None:
            raise MessageError("the plan has no metrics")
        weights = _weights_of(plan.measured(request.round), arrays)
        self._admit(plan)
        events = plan.metric_events(request.round)
        noise = {
            kind: self._noise(plan, request.round, metrics.event(kind).model) for kind in weights
        }
        return release_once(
            self.ledger,
            self._charge(request, "evaluation", events, checksum),
            lambda granted: self._evaluate(request, metrics, weights, noise, granted),
        )

    def _admit(self, plan: Plan) -> None:
        """Raise unless the plan is allowed: whole before its first charge, its settings after."""
        if self.ledger.has_charges(plan.run, plan.digest):
            self._check_settings(plan)
        else:
            self.check_plan(plan)

    def _charge(
        self,
        request: TrainRequest | EvaluateRequest,
        role: Role,
        events: tuple[ModelEvent, ...],
        checksum: str,
    ) -> Charge:
        """What the answer to ``request`` costs the learners of ``role``."""
        return Charge(
            run=request.plan.run,
            round=request.round,
            plan=request.plan.digest,
            request=checksum,
            role=role,
            cohorts=self.cohorts,
            events=events,
        )

    def _train(
        self,
        request: TrainRequest,
        weights: dict[str, Weights],
        noise: dict[str, NoiseSource],
        granted: Granted,
    ) -> tuple[bytes, tuple[ModelEvent, ...]]:
        """The contribution, signed, and what was done for it."""
        deltas: dict[str, Weights] = {}
        events: list[ModelEvent] = []
        for model in request.plan.active(request.round):
            kind = model.spec.kind
            result = train_round(
                weights[kind],
                SilentSource(self.source),
                model.mechanism,
                model.spec,
                noise[kind],
                local=model.local,
                declared_size=self.declared_size,
                cohorts=granted.cohorts,
            )
            deltas[kind] = result.delta
            events += [ModelEvent(model=kind, event=event) for event in result.events]
        contribution = Contribution(
            plan=request.plan.digest, round=request.round, node=self.name, head=granted.head
        )
        return self._packed(contribution, request.plan, deltas), tuple(events)

    def _packed(self, contribution: Contribution, plan: Plan, deltas: dict[str, Weights]) -> bytes:
        """The signed bytes; what compression leaves of the deltas is on disk before they are."""
        if plan.compression == "none":
            return pack_signed(contribution, join(deltas), self.key)
        before = self.ledger.last_reply(plan.run)
        owed = {} if before is None else self.residuals.load(plan.run, before)
        sent, left = compress(deltas, owed, plan, contribution.round)
        reply = pack_signed(contribution, sent, self.key)
        self.residuals.keep(plan.run, hashlib.sha256(reply).hexdigest(), left, before)
        return reply

    def _evaluate(
        self,
        request: EvaluateRequest,
        metrics: MetricPlan,
        weights: dict[str, Weights],
        noise: dict[str, NoiseSource],
        granted: Granted,
    ) -> tuple[bytes, tuple[ModelEvent, ...]]:
        """The report, signed, and what was done for it."""
        histograms: dict[str, Weights] = {}
        events: list[ModelEvent] = []
        for model in request.plan.measured(request.round):
            kind = model.spec.kind
            result = evaluate_round(
                weights[kind],
                SilentSource(self.source),
                metrics,
                model.spec,
                noise[kind],
                cohorts=granted.cohorts,
            )
            histograms[kind] = {"histogram": result.histogram}
            events.append(result.event)
        report = MetricReport(
            plan=request.plan.digest, round=request.round, node=self.name, head=granted.head
        )
        return pack_signed(report, join(histograms), self.key), tuple(events)

    def _noise(self, plan: Plan, round_number: int, kind: str) -> NoiseSource:
        noise = self.noise(plan, round_number, kind)
        if not (noise.has_guarantee or self.policy.allow_without_guarantee):
            raise PolicyError("reproducible noise gives no guarantee", "noise")
        return noise

    def _refuse(self, plan: str, round_number: int, code: str) -> bytes:
        head = self.ledger.head() if code == RESTORED else None
        refusal = Refusal(plan=plan, round=round_number, node=self.name, code=code, head=head)
        return pack_signed(refusal, {}, self.key)


def _weights_of(
    models: tuple[ModelPlan, ...], arrays: Arrays, compression: Compression = "none"
) -> dict[str, Weights]:
    """The weights by model kind; ``MessageError`` unless they are those of ``models``."""
    specs = {model.spec.kind: model.spec for model in models}
    if not specs:
        raise MessageError("the plan has no such round, or no metrics after it")
    sent = split(arrays)
    if sent.keys() != specs.keys():
        raise MessageError("the round is for other models than were sent")
    return {kind: decode(sent[kind], spec, compression) for kind, spec in specs.items()}


def refusal_code(error: CloisterError) -> str:
    """The reason that may leave the node: a word, never a text."""
    if isinstance(error, PolicyError | LedgerError):
        return error.code
    if isinstance(error, BudgetExceededError):
        return "budget"
    return "message"

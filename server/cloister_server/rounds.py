"""The round loop: send, wait, validate, aggregate, step, checkpoint; then release."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from cloister_server.aggregation import apply_mean
from cloister_server.checkpoint import (
    MetricRecord,
    RoundRecord,
    RunState,
    load_checkpoint,
    save_checkpoint,
)
from cloister_server.exchange import Exchange, Reply
from cloister_server.metrics import federated_breakdowns, federated_figures
from cloister_server.notary import Notary, RefusedError, RejectedError
from cloister_server.release_gate import require_audit
from cloister_server.running_sum import RunningSum
from cloister_server.validation import Answer, accept, accept_metrics
from cloister_shared.compression import encode
from cloister_shared.durable import write_durably
from cloister_shared.errors import MessageError, RunError
from cloister_shared.messages import (
    Contribution,
    EvaluateRequest,
    MetricReport,
    Receipt,
    Release,
    TrainRequest,
    join,
    pack,
    pack_receipts,
    unpack,
)
from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.histograms import Floats

Observer = Callable[[RoundRecord, Mapping[str, Weights]], None]
"""Called after each round with its record and the weights by model kind."""

Found = TypeVar("Found")
"""What is in an answer that counts, by model kind."""

_REASON_LENGTH = 200


def unobserved(record: RoundRecord, weights: Mapping[str, Weights]) -> None:
    """The observer that looks away."""


@dataclass
class _Tally:
    """What one question brought: answers that count, why others do not, and how many bytes."""

    accepted: dict[str, Contribution | MetricReport] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0

    @property
    def participants(self) -> tuple[str, ...]:
        """Names of the nodes whose answers count."""
        return tuple(sorted(self.accepted))


@dataclass
class Coordinator:
    """Runs one plan over an exchange.

    ``directory`` holds its checkpoint, its released models, and what its notary knows of nodes.
    """

    plan: Plan
    initial_weights: dict[str, Weights]
    directory: Path
    observe: Observer = unobserved
    durable: bool = True
    """Whether a round is flushed to the disk before the next one is asked for. Without, a failure
    of the machine may cost rounds, which only simulated participants can be asked for again."""
    audit: Path | None = None
    """The signed report of an audit, without which no private model is released. Simulations, which
    release nothing to anybody, need none."""
    publish: Callable[[RunState], None] | None = None
    """What becomes of the finished models; without, the nodes that are there get them, and a copy
    is kept as ``RUN.release``."""
    own_notary: Notary | None = None
    """Who knows the nodes; without one, the notary of ``directory``."""
    approved: Callable[[Iterable[int]], Mapping[int, str]] | None = None
    """Which of these ids of Flower's are approved nodes, and what they are called: asked with every
    question. Without, a name is whose first claims it, for as long as this object runs."""
    _names: dict[int, str] = field(default_factory=dict, init=False)

    @cached_property
    def notary(self) -> Notary:
        """Who knows the nodes' keys and ledgers, for all runs in this directory."""
        return self.own_notary or Notary.of_folder(self.directory)

    @property
    def checkpoint_path(self) -> Path:
        """Where this run's state is kept."""
        return self.directory / f"{self.plan.run}.checkpoint"

    def run(self, exchange: Exchange) -> RunState:
        """Do the rounds that are left and release the models; returns the final state.

        Resumes from the checkpoint if there is one. Raises ``RunError`` if fewer than the plan's
        quorum of valid contributions arrive within the deadline; the checkpoint stays.
        """
        for model in self.plan.models:
            check_weights(self.initial_weights[model.spec.kind], model.spec)
        self.directory.mkdir(parents=True, exist_ok=True)
        state = load_checkpoint(self.checkpoint_path, self.plan)
        state = state or RunState(self.plan, dict(self.initial_weights))
        self._measure(state, exchange)
        while state.round < self.plan.rounds:
            self._round(state, exchange)
        self._release(state, exchange)
        return state

    def _round(self, state: RunState, exchange: Exchange) -> None:
        began = time.perf_counter()
        number = state.round + 1
        nodes = self._wait_for_nodes(exchange)
        active = self.plan.active(number)
        request = self._train_request(state, number)
        receipts = pack_receipts(self.notary.receipts())
        replies = exchange.ask(
            "train", dict.fromkeys(nodes, request), number, self.plan.deadline_s, receipts
        )
        sums = {model.spec.kind: RunningSum() for model in active}

        def count(name: str, deltas: Mapping[str, Weights]) -> None:
            for kind, delta in deltas.items():
                sums[kind].add(delta, self.plan.declared_sizes[name])

        tally = self._collect(
            replies, lambda body: accept(body, self.plan, number, self.notary), count
        )
        self._require_quorum(tally, number, len(nodes))
        for model in active:
            kind = model.spec.kind
            state.weights[kind] = apply_mean(
                state.weights[kind], sums[kind].mean(), model, number, state.optimizer(kind)
            )
        record = RoundRecord(
            round=number,
            seconds=time.perf_counter() - began,
            bytes_down=(len(request) + len(receipts)) * len(nodes),
            bytes_up=tally.bytes_up,
            participants=tally.participants,
            rejected=tally.rejected,
        )
        state.round = number
        state.records.append(record)
        save_checkpoint(self.checkpoint_path, state, durable=self.durable)
        self._measure(state, exchange)
        self.observe(record, state.weights)

    def _wait_for_nodes(self, exchange: Exchange) -> list[int]:
        """Ids of the nodes to ask: whoever is there, in a consortium also approved."""
        nodes = exchange.wait_for_nodes(self.plan.quorum, self.plan.deadline_s)
        if self.approved is not None:
            self._names = dict(self.approved(nodes))
            nodes = [node for node in nodes if node in self._names]
        return nodes

    def _train_request(self, state: RunState, number: int) -> bytes:
        """What every node gets: always the same bytes for the same state."""
        weights = {
            model.spec.kind: encode(
                state.weights[model.spec.kind], model.spec, self.plan.compression
            )
            for model in self.plan.active(number)
        }
        return pack(TrainRequest(plan=self.plan, round=number), join(weights))

    def _require_quorum(self, tally: _Tally, number: int, asked: int) -> None:
        if len(tally.accepted) >= self.plan.quorum:
            return
        reasons = "; ".join(f"{name} {why}" for name, why in tally.rejected.items())
        raise RunError(
            f"round {number} needs {self.plan.quorum} contributions, {len(tally.accepted)} of "
            f"{asked} nodes gave one ({reasons or 'no reply'}); run again, or resume it"
        )

    def _measure(self, state: RunState, exchange: Exchange) -> None:
        """Ask for the metrics of the last round, if they are due and nobody has asked yet.

        A coordinator that died in between asks again with the same bytes: nodes that had answered
        answer as they did. The run goes on whatever comes back.
        """
        metrics, number = self.plan.metrics, state.round
        measured = self.plan.measured(number)
        if metrics is None or not measured or any(one.round == number for one in state.metrics):
            return
        nodes = self._wait_for_nodes(exchange)
        weights = join({model.spec.kind: state.weights[model.spec.kind] for model in measured})
        request = pack(EvaluateRequest(plan=self.plan, round=number), weights)
        replies = exchange.ask(
            "evaluate",
            dict.fromkeys(nodes, request),
            number,
            self.plan.deadline_s,
            pack_receipts(self.notary.receipts()),
        )
        histograms: dict[str, dict[str, Floats]] = {}
        tally = self._collect(
            replies,
            lambda body: accept_metrics(body, self.plan, metrics, number, self.notary),
            histograms.__setitem__,
        )
        record = MetricRecord(
            round=number,
            participants=tally.participants,
            rejected=tally.rejected,
            figures=federated_figures(histograms, self.plan, metrics, number),
            breakdowns=federated_breakdowns(histograms, self.plan, metrics, number),
        )
        state.metrics.append(record)
        save_checkpoint(self.checkpoint_path, state, durable=self.durable)

    def _collect(
        self,
        replies: Iterable[Reply],
        accept_body: Callable[[bytes], tuple[Answer, Found]],
        count: Callable[[str, Found], None],
    ) -> _Tally:
        """Give what each valid answer holds to ``count``, with its node's name, and forget it.

        The notary learns how far the ledgers of those that count have come, and who asks for it.
        """
        tally = _Tally()
        senders = {name: sender for sender, name in self._names.items()}
        for reply in replies:
            tally.bytes_up += len(reply.body or b"")
            label = self._names.get(reply.sender, f"node {reply.sender}")
            try:
                header, found = self._accept(reply, accept_body)
                name = header.node
                if senders.setdefault(name, reply.sender) != reply.sender:
                    raise RejectedError("gave another node's name")
                if name in tally.accepted:
                    raise RejectedError("answered twice")
                self._names[reply.sender] = name
                count(name, found)
                tally.accepted[name] = header
            except MessageError as error:
                tally.rejected[label] = _reason(error)
                if isinstance(error, RefusedError):
                    self.notary.hear(error.refusal)
        self.notary.learn(tally.accepted.values(), self.plan.run)
        return tally

    def _accept(
        self, reply: Reply, accept_body: Callable[[bytes], tuple[Answer, Found]]
    ) -> tuple[Answer, Found]:
        if reply.body is None:
            raise RejectedError(reply.error)
        header, found = accept_body(reply.body)
        if self._names.get(reply.sender, header.node) != header.node:
            raise RejectedError("changed its name")
        return header, found

    def _release(self, state: RunState, exchange: Exchange) -> None:
        """Keep the finished models and give them to the nodes that are there, or publish them.

        Raises ``PolicyError`` where the audit's report is missing or has found something.
        """
        if self.audit is not None:
            require_audit(self.plan, self.audit, self.notary.keys)
        if self.publish is not None:
            self.publish(state)
            return
        release = pack(Release(plan=self.plan, round=state.round), join(state.weights))
        write_durably(self.directory / f"{self.plan.run}.release", release)
        nodes = self._wait_for_nodes(exchange)
        replies = exchange.ask(
            "release", dict.fromkeys(nodes, release), state.round, self.plan.deadline_s
        )
        stored = sum(self._is_receipt(reply, state.round) for reply in replies)
        if stored < self.plan.quorum:
            raise RunError(
                f"{self.plan.quorum} nodes must store the finished models, {stored} did; "
                "run again to hand them out"
            )

    def _is_receipt(self, reply: Reply, number: int) -> bool:
        try:
            receipt, arrays = unpack(reply.body or b"", Receipt)
            self.notary.check(receipt, arrays)
        except MessageError:
            return False
        return (receipt.plan, receipt.round) == (self.plan.digest, number)


def _reason(error: MessageError) -> str:
    """The error on one short line: it may quote what a node sent."""
    text = str(error)[:_REASON_LENGTH]
    return "".join(letter if letter.isprintable() else "?" for letter in text)

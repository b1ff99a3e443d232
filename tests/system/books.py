"""What must be true of all files together, whoever was killed and wherever."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.system.consortium import CURRICULUM, NAMES
from tests.system.processes import Replies, checkpoint, replies

from cloister_client.home import NodeHome
from cloister_server.aggregation import OptimizerState, apply_mean
from cloister_server.checkpoint import MetricRecord, RoundRecord, RunState, read_checkpoint
from cloister_server.running_sum import RunningSum
from cloister_shared.compression import decode
from cloister_shared.messages import Contribution, Release, split, unpack
from cloister_shared.model_specs import Weights
from cloister_shared.privacy import LedgerExport, verify_ledger
from cloister_shared.privacy.ledger_format import RELEASE_KIND, ROLES, Role

REPLY: dict[Role, str] = {"train": "contribution", "evaluation": "metric_report"}


def export_of(home: Path) -> LedgerExport:
    """A node's ledger as an auditor gets it."""
    ledger = NodeHome.open(home).ledger()
    export = ledger.export()
    ledger.close()
    return export


def charges(export: LedgerExport, role: Role = "train") -> Counter[int]:
    """How often each round was charged to a role."""
    found = [entry.charge for entry in export.entries if entry.kind == "RESERVE"]
    return Counter(charge.round for charge in found if charge.role == role)


def committed(export: LedgerExport, role: Role = "train") -> list[tuple[int, str]]:
    """Round and SHA-256 of all that was made of a role's learners, to be sent."""
    return [
        (export.entries[entry.of].charge.round, entry.payload_digest)
        for entry in export.entries
        if entry.kind == RELEASE_KIND[role]
    ]


def check_books(directory: Path) -> RunState:
    """Whatever was sent is what was committed; whatever was received is paid for, and counted once.

    At any instant: ledgers are read last, so that they can only be ahead. Returns the run's state.
    """
    state, sent = read_checkpoint(checkpoint(directory)), replies(directory)
    assert [one.round for one in state.records] == list(range(1, state.round + 1))
    received = {"train": state.records, "evaluation": state.metrics}
    for name in NAMES:
        export = export_of(directory / name)
        for role in ROLES:
            _check_spend(name, export, role, received[role])
            _check_replies(name, export, role, sent)
    return state


def _check_spend(
    name: str,
    export: LedgerExport,
    role: Role,
    received: Sequence[RoundRecord] | Sequence[MetricRecord],
) -> None:
    rounds = [one.round for one in received if name in one.participants]
    assert len(rounds) == len(set(rounds)), "a reply was counted twice"
    assert set(rounds) <= dict(committed(export, role)).keys()
    found = [entry for entry in export.entries if entry.kind == "RESERVE"]
    prices = {one.charge.round: one.cost for one in found if one.charge.role == role}
    spent = verify_ledger(export)
    if rounds:
        assert spent[role, "all"].micro >= sum(prices[number] for number in rounds)


def _check_replies(name: str, export: LedgerExport, role: Role, sent: Replies) -> None:
    kept = committed(export, role)
    assert len(kept) == len(dict(kept)), "a round was released twice"
    for (kind, number, sender), different in sent.items():
        if (kind, sender) == (REPLY[role], name):
            assert list(different) == [dict(kept)[number]], "other bytes are a second release"


def check_finished(directory: Path) -> None:
    """The run is over, with every node's update of every round in its models exactly once."""
    state = check_books(directory)
    assert state.round == state.plan.rounds
    assert {one.participants for one in state.records} == {tuple(sorted(NAMES))}
    measured = [number for number in range(1, state.round + 1) if state.plan.measured(number)]
    assert [one.round for one in state.metrics] == measured
    assert "refusal" not in {kind for kind, _, _ in replies(directory)}
    expected = replayed(directory, state)
    _, arrays = unpack((directory / "first.release").read_bytes(), Release)
    served = [_served(NodeHome.open(directory / name)) for name in NAMES]
    for weights in (state.weights["dkt"], split(arrays)["dkt"], *served):
        assert weights.keys() == expected.keys()
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def replayed(directory: Path, state: RunState) -> Weights:
    """The weights to which the replies that were sent lead, each counted once."""
    sent = replies(directory)
    (model,) = state.plan.models
    weights, optimizer = model.spec.initial_weights(CURRICULUM, 1), OptimizerState()
    for record in state.records:
        running = RunningSum()
        for name in record.participants:
            (path,) = sent["contribution", record.round, name].values()
            arrays = split(unpack(path.read_bytes(), Contribution)[1])["dkt"]
            delta = decode(arrays, model.spec, state.plan.compression)
            running.add(delta, state.plan.declared_sizes[name])
        weights = apply_mean(weights, running.mean(), model, record.round, optimizer)
    return weights


def _served(home: NodeHome) -> Weights:
    """The weights of the tracer that the node serves."""
    with home.store() as store:
        model = store.active_model("dkt")
    assert model is not None
    return model.weights

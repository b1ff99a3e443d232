"""A node: bytes in, bytes out, charged before it reads, silent about learners."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import History, HistorySource, MemoryHistorySource, Purpose
from cloister_client.ledger import Ledger, MemoryLedger
from cloister_client.node import Node, refusal_code
from cloister_shared.errors import (
    BudgetExceededError,
    ConfigError,
    DataError,
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
    is_authentic,
    join,
    pack,
    split,
    unpack,
)
from cloister_shared.model_specs import ModelSpec, Weights, check_weights
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy import Budget, KeyedNoise, Mechanism, Policy
from cloister_shared.privacy.ledger_format import Charge
from cloister_shared.signing import SigningKey

from .learners import made_up_history, random_weights, small_curriculum

CURRICULUM = small_curriculum()
BUDGET = Budget(epsilon=4.0, delta=1e-6)
KEY = SigningKey.generate()
SPECS = {
    "dkt": {"kind": "dkt", "skills": 5, "hidden": 3},
    "recommender": {"kind": "recommender", "items": 12, "factors": 2, "negatives": 2},
}
HISTORIES = {f"learner {n}": made_up_history(n, n) for n in (0, 1, 4, 9)}


def make_plan(**changes: object) -> Plan:
    """Two models, the recommender for one round less; ``changes`` are of the tracer's plan."""
    mechanism = Mechanism(noise_multiplier=4.0, clip_norm=0.5, sampling_rate=0.5)
    tracer = {"spec": SPECS["dkt"], "rounds": 3, "mechanism": mechanism, **changes}
    return Plan(
        run="autumn",
        curriculum=CURRICULUM.digest,
        models=(
            ModelPlan.model_validate(tracer),
            ModelPlan(spec=SPECS["recommender"], rounds=2, mechanism=mechanism),
        ),
        declared_sizes={"oak": 50, "elm": 100},
    )


@dataclass
class WatchingSource:
    """Remembers what the ledger held when learners were looked up or read."""

    source: HistorySource
    ledger: Ledger
    seen: list[list[str]] = field(default_factory=list)
    cohorts: list[Collection[str] | None] = field(default_factory=list)

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        self._look()
        self.cohorts.append(cohorts)
        return self.source.learners(purpose, cohorts)

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        self._look()
        return self.source.load(learners, purpose)

    def _look(self) -> None:
        self.seen.append(kinds(self.ledger))


def kinds(ledger: Ledger) -> list[str]:
    return [entry.kind for entry in ledger.export().entries]


def make_node(histories: dict[str, History] | None = None, **changes: object) -> Node:
    ledger = MemoryLedger(BUDGET)
    source = MemoryHistorySource(HISTORIES if histories is None else histories)
    node = Node(
        name="oak",
        key=KEY,
        declared_size=50,
        curriculum=CURRICULUM,
        policy=Policy(budget=BUDGET),
        source=WatchingSource(source, ledger),
        ledger=ledger,
        install=lambda spec, weights, plan, round_number: None,
    )
    return replace(node, **changes)


def plan_weights(plan: Plan, number: int | None = None) -> Weights:
    models = plan.models if number is None else plan.active(number)
    return join({model.spec.kind: random_weights(model.spec) for model in models})


def request(plan: Plan, number: int = 1) -> bytes:
    return pack(TrainRequest(plan=plan, round=number), plan_weights(plan, number))


def refusal_of(answer: bytes) -> str:
    header, arrays = unpack(answer, Refusal)
    assert not arrays
    assert is_authentic(header, arrays)
    return header.code


def test_whatever_a_node_answers_is_signed_with_its_key():
    node, plan = make_node(), make_plan()
    released = pack(Release(plan=plan, round=3), plan_weights(plan))
    answers = (
        node.answer_train(request(plan)),
        node.answer_train(request(make_plan(rounds=10_000))),
        node.answer_train(b"garbage"),
        node.answer_release(released),
        node.answer_release(b"garbage"),
    )
    for answer in answers:
        header, arrays = unpack(answer, Contribution, Refusal, Receipt)
        assert is_authentic(header, arrays)
        assert header.key == KEY.public


@pytest.mark.parametrize("number", [1, 3])
def test_a_contribution_holds_the_delta_of_every_model_of_the_round(number):
    plan = make_plan()
    header, arrays = unpack(make_node().answer_train(request(plan, number)), Contribution)
    assert (header.plan, header.round, header.node) == (plan.digest, number, "oak")
    deltas = split(arrays)
    assert deltas.keys() == {model.spec.kind for model in plan.active(number)}
    for model in plan.active(number):
        check_weights(deltas[model.spec.kind], model.spec)


def test_the_charge_is_there_before_anybody_is_looked_up_and_the_commit_before_the_answer():
    node = make_node()
    answer = node.answer_train(request(make_plan()))
    assert node.source.seen
    assert all(seen == ["RESERVE", "START"] for seen in node.source.seen)
    last = node.ledger.export().entries[-1]
    assert last.kind == "COMMIT"
    assert last.payload_digest == hashlib.sha256(answer).hexdigest()


def test_the_charge_is_what_the_plan_says_for_the_round():
    node, plan = make_node(), make_plan(local=LocalTraining(steps=7))
    for number in (1, 2, 3):
        node.answer_train(request(plan, number))
        charge = node.ledger.export().entries[-3].charge
        assert (charge.run, charge.round, charge.plan) == ("autumn", number, plan.digest)
        assert charge.events == plan.charge_events(number)
        assert charge.cohorts == ("all",)


def test_a_repeated_request_gives_identical_bytes_costs_nothing_and_reads_nobody():
    node, message = make_node(), request(make_plan())
    first = node.answer_train(message)
    spent, reads = node.ledger.spent(), len(node.source.seen)
    assert node.answer_train(message) == first
    assert node.ledger.spent() == spent
    assert len(node.source.seen) == reads


def test_a_round_is_answered_once_whatever_else_is_asked():
    node, plan = make_node(), make_plan()
    node.answer_train(request(plan))
    others = {name: 2 * array for name, array in plan_weights(plan).items()}
    again = node.answer_train(pack(TrainRequest(plan=plan, round=1), others))
    assert refusal_of(again) == "ledger"
    assert kinds(node.ledger) == ["RESERVE", "START", "COMMIT"]


def test_two_nodes_with_the_same_learners_never_send_the_same_noise():
    arrays = [
        unpack(make_node({}).answer_train(request(make_plan())), Contribution)[1] for _ in "ab"
    ]
    assert all((arrays[0][name] != arrays[1][name]).any() for name in arrays[0])


@pytest.mark.parametrize(
    "histories",
    [
        {name: one for name, one in HISTORIES.items() if name != "learner 9"},
        {**HISTORIES, "one more": made_up_history(3000, 1)},
        {"alone": made_up_history(1, 1)},
        {},
    ],
    ids=["one less", "one more with 3000 answers", "one learner", "nobody"],
)
def test_length_and_header_are_the_same_whoever_is_enrolled(histories):
    answers = [
        make_node(some).answer_train(request(make_plan())) for some in (HISTORIES, histories)
    ]
    assert len(answers[0]) == len(answers[1])
    # Everything before the arrays' bytes, but for the signature.
    heads = [answer[: 8 + int.from_bytes(answer[:8], "little")] for answer in answers]
    signatures = [unpack(answer, Contribution)[0].signature.encode() for answer in answers]
    assert heads[0].replace(signatures[0], b"") == heads[1].replace(signatures[1], b"")


def test_a_node_with_nobody_eligible_sends_noise_of_the_declared_scale():
    nobody = MemoryHistorySource(HISTORIES, roles=dict.fromkeys(HISTORIES, "evaluation"))
    answer = make_node(source=nobody).answer_train(request(make_plan()))
    deltas = split(unpack(answer, Contribution)[1])
    scale = 4.0 * 0.5 / (0.5 * 50)
    values = np.concatenate([array.ravel() for array in deltas["dkt"].values()])
    assert scale / 2 < values.std() < 2 * scale


MECHANISM = {"noise_multiplier": 4.0, "clip_norm": 0.5, "sampling_rate": 0.5}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0.4}}, "policy"),
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0}}, "policy"),
        ({"mechanism": {**MECHANISM, "sampling_rate": 0.6}}, "policy"),
        ({"mechanism": {**MECHANISM, "clip_norm": 11}}, "policy"),
        ({"local": {"steps": 101}}, "policy"),
        ({"local": {"steps": 10**300}}, "policy"),
        ({"rounds": 10_000}, "budget"),
        ({"mechanism": {**MECHANISM, "noise_multiplier": 0.5}, "rounds": 50}, "budget"),
        ({"spec": {**SPECS["dkt"], "skills": 4}}, "message"),
        ({"spec": {**SPECS["dkt"], "skills": 6}}, "message"),
    ],
)
def test_a_plan_that_is_not_allowed_reads_nobody_and_costs_nothing(changes, code):
    node = make_node()
    assert refusal_of(node.answer_train(request(make_plan(**changes)))) == code
    assert not node.source.seen
    assert not kinds(node.ledger)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"curriculum": small_curriculum("another")}, "curriculum"),
        ({"declared_size": 60}, "declared_size"),
        ({"name": "ash"}, "declared_size"),
        ({"policy": Policy(budget=BUDGET, min_declared_size=51)}, "declared_size_floor"),
        ({"noise": lambda plan, number, kind: KeyedNoise(1)}, "noise"),
    ],
)
def test_a_node_that_does_not_take_part_reads_nobody_and_is_charged_nothing(changes, code):
    node = make_node(**changes)
    assert refusal_of(node.answer_train(request(make_plan()))) == code
    assert not node.source.seen
    assert not kinds(node.ledger)


def test_keyed_noise_is_for_nodes_whose_policy_allows_it():
    policy = Policy(budget=BUDGET, allow_without_guarantee=True)
    node = make_node(policy=policy, noise=lambda plan, number, kind: KeyedNoise(1, number, kind))
    unpack(node.answer_train(request(make_plan())), Contribution)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {**SPECS["dkt"], "skills": 2}},
        {"mechanism": {**MECHANISM, "noise_multiplier": 0.4}},
        {"local": {"steps": 101}},
    ],
    ids=["a smaller spec", "less noise", "more steps"],
)
def test_a_plan_cannot_be_swapped_for_another_of_the_same_run(changes):
    """A spec with fewer skills than learners answer to would crash for some learners only."""
    node = make_node()
    node.answer_train(request(make_plan()))
    reads, entries = len(node.source.seen), kinds(node.ledger)
    assert refusal_of(node.answer_train(request(make_plan(**changes), 2))) in ("message", "policy")
    assert (len(node.source.seen), kinds(node.ledger)) == (reads, entries)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"garbage",
        pack(Receipt(plan="", round=1, node="oak")),
        pack(TrainRequest(plan=make_plan(), round=1)),
        pack(TrainRequest(plan=make_plan(), round=3), plan_weights(make_plan())),
        pack(TrainRequest(plan=make_plan(), round=4)),
        pack(TrainRequest(plan=make_plan(), round=4), plan_weights(make_plan())),
        pack(TrainRequest(plan=make_plan(), round=1), {"loose": np.zeros(1, dtype=np.float32)}),
        pack(
            TrainRequest(plan=make_plan(), round=1),
            {name: array[:1] for name, array in plan_weights(make_plan()).items()},
        ),
        pack(
            TrainRequest(plan=make_plan(), round=1),
            {name: array * np.nan for name, array in plan_weights(make_plan()).items()},
        ),
    ],
    ids=[
        "nothing",
        "garbage",
        "another message",
        "no arrays",
        "a model whose rounds are over",
        "a round after the last",
        "a round after the last, with arrays",
        "an array of no model",
        "other shapes",
        "not a number",
    ],
)
def test_a_message_of_another_form_reads_nobody_and_costs_nothing(message):
    node = make_node()
    assert refusal_of(node.answer_train(message)) == "message"
    assert not node.source.seen
    assert not kinds(node.ledger)


VALID = request(make_plan())
NOT_TAKING_PART = make_node(declared_size=51)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.integers(0, len(VALID)).map(lambda end: VALID[:end]),
        st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)).map(
            lambda change: VALID[: change[0]] + bytes([change[1]]) + VALID[change[0] + 1 :]
        ),
    )
)
def test_whatever_the_bytes_are_the_answer_is_a_refusal_without_text(message):
    for answer in (NOT_TAKING_PART.answer_train(message), NOT_TAKING_PART.answer_release(message)):
        assert refusal_of(answer) in ("message", "declared_size", "curriculum")
        assert len(answer) < 5000


@dataclass(frozen=True)
class FailingSource:
    """Fails with the learner's name in the text, as code below us might."""

    error: Exception

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        return ["ada lovelace"]

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        raise self.error


@dataclass(frozen=True)
class UnlistedSource:
    """Cannot even say who is enrolled."""

    error: Exception

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        raise self.error

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        return []


@pytest.mark.parametrize("broken", ["their records", "the list"])
def test_records_that_cannot_be_used_are_left_out_and_nobody_outside_is_told(broken, caplog):
    """A refusal would tell that a learner with such records is enrolled."""
    error = DataError("ada lovelace has an answer to an unknown item")
    source = FailingSource(error) if broken == "their records" else UnlistedSource(error)
    message = request(make_plan())
    answer = make_node(source=source).answer_train(message)
    unpack(answer, Contribution)
    assert len(answer) == len(make_node().answer_train(message))
    assert "cannot be used" in caplog.text or "could not be listed" in caplog.text
    assert "lovelace" not in caplog.text
    assert b"lovelace" not in answer


def test_a_crash_gives_no_charge_back_and_the_next_attempt_is_charged_anew():
    node, message = make_node(), request(make_plan())
    with pytest.raises(KeyError):
        replace(node, source=FailingSource(KeyError("ada"))).answer_train(message)
    assert kinds(node.ledger) == ["RESERVE", "START"]
    once = node.ledger.spent()["train", "all"].micro
    unpack(node.answer_train(message), Contribution)
    assert kinds(node.ledger) == ["RESERVE", "START", "RESERVE", "START", "COMMIT"]
    assert node.ledger.spent()["train", "all"].micro == 2 * once


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("text", "noise"), "noise"),
        (BudgetExceededError("text", 2, 1), "budget"),
        (LedgerError("text"), "ledger"),
        (LedgerError("text", "ledger_copied"), "ledger_copied"),
        (MessageError("text"), "message"),
        (ConfigError("text"), "message"),
        (DataError("text"), "message"),
    ],
)
def test_a_refusal_is_a_word_that_is_fixed_beforehand(error, code):
    assert refusal_code(error) == code


def test_the_whole_plan_is_priced_before_its_first_round_and_the_error_says_what_fits():
    node = make_node()
    with pytest.raises(BudgetExceededError, match=r"at most (\d+) rounds would fit") as caught:
        node.check_plan(make_plan(rounds=1000))
    fitting = int(str(caught.value).rsplit("at most ", 1)[1].split()[0])
    node.check_plan(make_plan(rounds=fitting))
    with pytest.raises(BudgetExceededError):
        node.check_plan(make_plan(rounds=fitting + 1))
    assert refusal_of(node.answer_train(request(make_plan(rounds=fitting + 1)))) == "budget"
    assert not kinds(node.ledger)


def test_what_other_runs_spent_counts():
    node = make_node()
    _spend(node.ledger, "all")
    assert refusal_of(node.answer_train(request(make_plan()))) == "budget"
    assert not node.source.seen


def test_learners_of_a_cohort_without_budget_are_not_read():
    node = make_node(cohorts=("2024", "2025"))
    _spend(node.ledger, "2024")
    unpack(node.answer_train(request(make_plan())), Contribution)
    assert set(node.source.cohorts) == {("2025",)}


def test_a_run_that_began_goes_on_until_its_cohorts_cannot_pay():
    node, plan = make_node(), make_plan()
    unpack(node.answer_train(request(plan, 1)), Contribution)
    _spend(node.ledger, "all")
    assert refusal_of(node.answer_train(request(plan, 2))) == "budget"


def test_a_ledger_of_a_simulation_without_a_guarantee_refuses_no_budget():
    node = make_node(
        policy=Policy(budget=BUDGET, allow_without_guarantee=True),
        ledger=MemoryLedger(BUDGET, enforced=False),
    )
    plan = make_plan(mechanism={**MECHANISM, "noise_multiplier": 0}, rounds=10_000)
    unpack(node.answer_train(request(plan)), Contribution)
    assert node.ledger.spent()["train", "all"].micro is None


def _spend(ledger: Ledger, cohort: str) -> None:
    """Charge another run's rounds to a cohort until it cannot pay for one more."""
    charge = Charge(
        run="spring",
        round=0,
        plan="",
        request="",
        cohorts=(cohort,),
        events=make_plan().charge_events(1),
    )
    price = charge.cost(ledger.header.order)
    for number in range(ledger.remaining("train", cohort) // price):
        ledger.reserve(charge.model_copy(update={"round": number}))


Installed = list[tuple[str, str, int]]


@pytest.fixture
def installed() -> Installed:
    return []


@pytest.fixture
def installing(installed) -> Callable[..., Node]:
    def install(spec: ModelSpec, weights: Weights, plan: str, round_number: int) -> None:
        check_weights(weights, spec)
        installed.append((spec.kind, plan, round_number))

    return lambda **changes: make_node(install=install, **changes)


def test_a_release_installs_every_model_of_the_plan_and_is_confirmed(installing, installed):
    plan = make_plan()
    answer = installing().answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    receipt, arrays = unpack(answer, Receipt)
    assert (receipt.plan, receipt.round, receipt.node) == (plan.digest, 3, "oak")
    assert not arrays
    assert installed == [("dkt", plan.digest, 3), ("recommender", plan.digest, 3)]


def released(change: Callable[[Weights], Weights]) -> bytes:
    plan = make_plan()
    return pack(Release(plan=plan, round=3), change(plan_weights(plan)))


@pytest.mark.parametrize(
    "message",
    [
        released(lambda arrays: {n: a for n, a in arrays.items() if n.startswith("dkt")}),
        released(lambda arrays: {**arrays, "third/kind": np.zeros(1, dtype=np.float32)}),
        released(lambda arrays: {**arrays, "recommender/source": np.zeros(2, dtype=np.float32)}),
        released(lambda arrays: {n: a * np.inf for n, a in arrays.items()}),
        released(lambda arrays: {"loose": np.zeros(1, dtype=np.float32)}),
        pack(
            Release(plan=make_plan(spec={**SPECS["dkt"], "skills": 4}), round=3),
            plan_weights(make_plan(spec={**SPECS["dkt"], "skills": 4})),
        ),
        request(make_plan()),
        b"garbage",
    ],
    ids=[
        "one model only",
        "a third model",
        "another shape",
        "not finite",
        "an array of no model",
        "another number of skills",
        "another message",
        "garbage",
    ],
)
def test_a_release_that_does_not_fit_installs_no_model_at_all(installing, installed, message):
    assert refusal_of(installing().answer_release(message)) == "message"
    assert installed == []


def test_a_release_for_another_curriculum_of_the_same_size_is_not_installed(installing, installed):
    plan = make_plan()
    node = installing(curriculum=small_curriculum("another"))
    answer = node.answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    assert refusal_of(answer) == "curriculum"
    assert installed == []

"""Clients trained together move the model as clients trained one by one do."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cloister_client.histories import History, MemoryHistorySource
from cloister_client.kernels.loader import SWITCH, kernels
from cloister_client.training import train_round
from cloister_server.running_sum import RunningSum
from cloister_shared.errors import ConfigError, DataError
from cloister_shared.messages import Contribution, TrainRequest, join, pack, split, unpack
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import KeyedNoise
from cloister_simulations.fleet import (
    Client,
    FileClients,
    Fleet,
    MemoryClients,
    client_trainer,
    run_fleet,
)

from ...client.learners import ITEMS, SKILLS, made_up_history, random_weights, small_curriculum

DKT = DktSpec(skills=SKILLS, hidden=5)
WIDE = DktSpec(skills=SKILLS, hidden=3, items=ITEMS, practice=True)
ONE_STEP = LocalTraining(learning_rate=0.5, window=6)
FIVE_STEPS = LocalTraining(learning_rate=0.5, steps=5, window=6)
ADAM = LocalTraining(learning_rate=0.01, steps=3, optimizer="adam")
WITHOUT_NOISE = Mechanism(noise_multiplier=0.0, clip_norm=1.0, sampling_rate=1.0)
SEED = 7


@pytest.fixture
def switched_off(monkeypatch) -> Iterator[Callable[[], None]]:
    """A function that switches the compiled kernels off for the rest of the test."""

    def switch() -> None:
        monkeypatch.setenv(SWITCH, "off")
        kernels.cache_clear()

    yield switch
    kernels.cache_clear()


def institutions(count: int) -> list[Client[Sequence[History]]]:
    """Of none to three learners with none to twelve answers."""
    random = np.random.default_rng(1)
    return [
        Client(
            number,
            declared_size=int(random.integers(1, 5)),
            data=[
                made_up_history(int(random.integers(0, 13)), 10 * number + one, 2)
                for one in range(int(random.integers(0, 4)))
            ],
        )
        for number in range(count)
    ]


def make_plan(
    spec: ModelSpec, local: LocalTraining, mechanism: Mechanism, size: int, rounds: int = 1
) -> Plan:
    model = ModelPlan(spec=spec, rounds=rounds, mechanism=mechanism, local=local)
    return Plan(
        run="together",
        curriculum=small_curriculum().digest,
        models=(model,),
        declared_sizes={"fleet": size},
        quorum=1,
    )


def together(
    plan: Plan, weights: Weights, clients, *, devices: bool = False, cohort: int | None = None
) -> Weights:
    model = plan.models[0]
    fleet = Fleet(
        clients,
        {model.spec.kind: client_trainer(model, devices=devices)},
        seed=SEED,
        cohort=cohort,
    )
    request = pack(TrainRequest(plan=plan, round=1), join({model.spec.kind: weights}))
    _, arrays = unpack(fleet.answer_train(request), Contribution)
    return split(arrays)[model.spec.kind]


def one_by_one(plan: Plan, weights: Weights, clients: Sequence[Client]) -> Weights:
    model = plan.models[0]
    running = RunningSum()
    for client in clients:
        source = MemoryHistorySource({str(at): one for at, one in enumerate(client.data)})
        result = train_round(
            weights,
            source,
            model.mechanism,
            model.spec,
            KeyedNoise(SEED, str(client.number), plan.run, 1, model.spec.kind),
            local=model.local,
            declared_size=client.declared_size,
        )
        running.add(result.delta, client.declared_size)
    return running.mean()


def assert_alike(ours: Weights, theirs: Weights) -> None:
    """Deltas are differences of weights of about 1, which float32 rounds to 1e-7 at every step."""
    for name in theirs:
        scale = np.abs(theirs[name]).max()
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=2e-5 * scale + 3e-7)


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("local", [ONE_STEP, FIVE_STEPS, ADAM], ids=["one", "five", "adam"])
@pytest.mark.parametrize("spec", [DKT, WIDE], ids=["deep", "wide"])
def test_institutions_trained_together_give_the_mean_of_those_trained_one_by_one(
    spec, local, rate, monkeypatch
):
    monkeypatch.setattr("cloister_simulations.fleet.trainers._STACKED_FLOATS", 5 * spec.dimension)
    clients, weights = institutions(12), random_weights(spec)
    mechanism = WITHOUT_NOISE.model_copy(update={"sampling_rate": rate})
    size = sum(client.declared_size for client in clients)
    plan = make_plan(spec, local, mechanism, size)
    assert_alike(
        together(plan, weights, MemoryClients(clients)), one_by_one(plan, weights, clients)
    )


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("local", [ONE_STEP, FIVE_STEPS], ids=["one", "five"])
@pytest.mark.parametrize("spec", [DKT, WIDE], ids=["deep", "wide"])
def test_without_compiled_kernels_a_round_is_the_same(spec, local, noise, switched_off):
    clients, weights = institutions(12), random_weights(spec)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.05, sampling_rate=1.0)
    size = sum(client.declared_size for client in clients)
    plan = make_plan(spec, local, mechanism, size)
    compiled = together(plan, weights, MemoryClients(clients))
    switched_off()
    assert_alike(together(plan, weights, MemoryClients(clients)), compiled)


def test_recommenders_of_several_steps_learn_together():
    """Negatives are drawn for all together, so that only what is learnt can be compared."""
    spec = RecommenderSpec(items=ITEMS, factors=4, negatives=5)
    walk = [made_up_history(12, seed) for seed in range(8)]
    for history in walk:
        history.items[:] = np.arange(12) % ITEMS
    clients = [Client(at, 1, [one]) for at, one in enumerate(walk)]
    weights = random_weights(spec)
    plan = make_plan(spec, LocalTraining(steps=20, learning_rate=0.5), WITHOUT_NOISE, 8)
    ours, theirs = (
        together(plan, weights, MemoryClients(clients)),
        one_by_one(plan, weights, clients),
    )
    flat = [np.concatenate([one[name].ravel() for name in weights]) for one in (ours, theirs)]
    assert np.corrcoef(*flat)[0, 1] > 0.9


def clipped_mean(plan: Plan, weights: Weights, clients: Sequence[Client]) -> Weights:
    """Each client's update by itself, cut to the clip norm, and the plain mean of all."""
    model = plan.models[0]
    free = model.model_copy(update={"mechanism": WITHOUT_NOISE})
    total = {name: np.zeros_like(array) for name, array in weights.items()}
    for client in clients:
        alone = one_by_one(plan.model_copy(update={"models": (free,)}), weights, [client])
        update = {name: -array / model.local.learning_rate for name, array in alone.items()}
        norm = math.sqrt(sum(float(np.square(array).sum()) for array in update.values()))
        factor = min(1, model.mechanism.clip_norm / (norm + 1e-6))
        total = {name: total[name] + factor * update[name] for name in total}
    scale = -model.local.learning_rate / len(clients)
    return {name: scale * array for name, array in total.items()}


@pytest.mark.parametrize("devices", [True, False])
@pytest.mark.parametrize("local", [ONE_STEP, FIVE_STEPS], ids=["one", "five"])
def test_one_central_noise_stands_on_the_mean_of_clipped_updates(local, devices):
    clients = [Client(at, 1, [made_up_history(9, at)]) for at in range(10)]
    weights = random_weights(DKT)
    mechanism = Mechanism(noise_multiplier=1e-3, clip_norm=0.05, sampling_rate=1.0)
    plan = make_plan(DKT, local, mechanism, len(clients))
    noisy = together(plan, weights, MemoryClients(clients), devices=devices)
    expected = clipped_mean(plan, weights, clients)
    deviation = local.learning_rate * 1e-3 * 0.05 / len(clients)
    residue = np.concatenate([(noisy[name] - expected[name]).ravel() for name in expected])
    assert residue.std() == pytest.approx(deviation, rel=0.2)
    assert abs(residue).max() < 6 * deviation


def test_a_cohort_is_drawn_anew_and_nobody_twice():
    clients = MemoryClients([Client(at, 1, [made_up_history(5, at)]) for at in range(40)])
    plan = make_plan(DKT, ONE_STEP, WITHOUT_NOISE, 40)
    fleet = Fleet(clients, {"dkt": client_trainer(plan.models[0])}, seed=SEED, cohort=10)
    drawn = [list(fleet._drawn(KeyedNoise(number))) for number in range(60)]
    assert all(len(set(one)) == 10 and one == sorted(one) for one in drawn)
    assert len({tuple(one) for one in drawn}) == 60
    assert set().union(*drawn) == set(range(40))


def test_a_fleet_of_a_thousand_holds_a_few_clients_at_a_time(monkeypatch):
    held: list[int] = []

    class Counted(MemoryClients):
        def load(self, numbers):
            held.append(len(numbers))
            return super().load(numbers)

    clients = Counted([Client(at, 1, [made_up_history(3, at)]) for at in range(1000)])
    plan = make_plan(DKT, ADAM, WITHOUT_NOISE, 1000)
    monkeypatch.setattr("cloister_simulations.fleet.trainers._STACKED_FLOATS", 64 * DKT.dimension)
    together(plan, random_weights(DKT), clients)
    assert sum(held) == 1000
    assert max(held) == 64


def test_a_fleet_runs_through_the_coordinator_to_a_released_model(tmp_path):
    clients = MemoryClients([Client(at, 1, [made_up_history(20, at)]) for at in range(30)])
    plan = make_plan(DKT, ONE_STEP, WITHOUT_NOISE, 30, rounds=3)
    fleet = Fleet(clients, {"dkt": client_trainer(plan.models[0])}, seed=SEED)
    state = run_fleet(plan, {"dkt": random_weights(DKT)}, fleet, tmp_path)
    assert state.round == 3
    for name, array in state.weights["dkt"].items():
        np.testing.assert_array_equal(fleet.released["dkt"][name], array)


def test_a_plan_for_other_nodes_is_refused(tmp_path):
    clients = MemoryClients(institutions(2))
    plan = make_plan(DKT, ONE_STEP, WITHOUT_NOISE, 4)
    other = plan.model_copy(update={"declared_sizes": {"elm": 4}})
    fleet = Fleet(clients, {"dkt": client_trainer(plan.models[0])}, seed=SEED)
    with pytest.raises(ConfigError, match="fleet"):
        run_fleet(other, {"dkt": random_weights(DKT)}, fleet, tmp_path)


def test_clients_in_files_are_those_in_memory(tmp_path: Path):
    clients = institutions(30)
    FileClients.write(
        tmp_path / "clients", ((one.declared_size, one.data) for one in clients), skills=3
    )
    stored = FileClients(tmp_path / "clients")
    assert len(stored) == 30
    assert stored.declared_size == MemoryClients(clients).declared_size
    for numbers in ([0], [29], [3, 4, 5, 9, 10, 20], list(range(30))):
        for found, number in zip(stored.load(numbers), numbers, strict=True):
            _same(found, clients[number])


def _same(found: Client, true: Client) -> None:
    assert (found.number, found.declared_size) == (true.number, true.declared_size)
    assert len(found.data) == len(true.data)
    for ours, theirs in zip(found.data, true.data, strict=True):
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.correct, theirs.correct)
        np.testing.assert_array_equal(ours.when, theirs.when)
        width = theirs.skills.shape[1]
        np.testing.assert_array_equal(ours.skills[:, :width], theirs.skills)
        assert (ours.skills[:, width:] == -1).all()


def test_a_folder_without_clients_says_so(tmp_path):
    with pytest.raises(DataError, match="holds no clients"):
        FileClients(tmp_path)

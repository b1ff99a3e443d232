"""What ``compression: int8`` saves of a round's bytes, and what it costs in accuracy.

Bytes are those that the coordinator counts of a real round in this process: headers, signatures and
receipts too, over four for each weight. Accuracy is that of synthetic schools without noise, whose
seeds are paired: with noise, whatever rounding does would drown in it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context

from cloister_client.flower import make_client_app
from cloister_client.histories import History, MemoryHistorySource
from cloister_server.checkpoint import RoundRecord
from cloister_server.exchange import Exchange
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.compression import Compression
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism
from cloister_simulations.backend.in_process import run_in_process
from cloister_simulations.benchmarks.skills import curriculum_of
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.nodes import MemoryNodes, node_configs
from cloister_simulations.progress import Reporter, Silent

NAMES = ("oak", "elm", "ash")
SKILLS, HIDDEN = 100, 100
SIZE = 100
SEEDS = (1, 2, 3, 4, 5)
_ANSWERS = 50
_ROUNDS = 2
"""The first has no receipts beside its request yet."""


def bytes_over_float32() -> dict[str, float]:
    """A node's bytes of one round, ``down`` and ``up``, as a share of its weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        record = _last_round(Path(folder))
    floats = 4 * DktSpec(skills=SKILLS, hidden=HIDDEN).dimension * len(NAMES)
    return {"down": record.bytes_down / floats, "up": record.bytes_up / floats}


def auc_losses(reporter: Reporter) -> list[tuple[float, float]]:
    """AUC of each of ``SEEDS`` without compression, and what int8 loses of it."""
    reporter.begin("paired seeds", len(SEEDS))
    losses = []
    for number, seed in enumerate(SEEDS, start=1):
        exact = _auc(seed, "none")
        losses.append((exact, exact - _auc(seed, "int8")))
        reporter.reach(number)
    return losses


def _made_up_history(number: int) -> History:
    """One learner's answers to random skills; an item each."""
    random = np.random.default_rng(number)
    skills = random.integers(0, SKILLS, _ANSWERS).astype(np.int32)
    correct = (random.random(_ANSWERS) < 0.6).astype(np.float32)
    return History(skills, skills[:, None], correct, np.arange(_ANSWERS, dtype=np.float64))


def _last_round(folder: Path) -> RoundRecord:
    curriculum = curriculum_of(SKILLS)
    budget = Budget(epsilon=8.0, delta=1e-5)
    source = MemoryHistorySource({str(one): _made_up_history(one) for one in range(SIZE // 10)})
    nodes = MemoryNodes(
        curriculum=curriculum,
        sources=dict.fromkeys(NAMES, source),
        declared_sizes=dict.fromkeys(NAMES, SIZE),
        budget=budget,
        seed=None,
        enforced=True,
    )
    spec = DktSpec(skills=SKILLS, hidden=HIDDEN)
    mechanism = Mechanism(noise_multiplier=6.0, clip_norm=0.1, sampling_rate=0.1)
    plan = Plan(
        run="bytes",
        curriculum=curriculum.digest,
        models=(ModelPlan(spec=spec, rounds=_ROUNDS, mechanism=mechanism),),
        declared_sizes=dict.fromkeys(NAMES, SIZE),
        quorum=len(NAMES),
        compression="int8",
    )
    records: list[RoundRecord] = []
    coordinator = Coordinator(
        plan,
        {"dkt": spec.initial_weights(curriculum, 1)},
        folder,
        observe=lambda record, _: records.append(record),
        durable=False,
    )

    def run(exchange: Exchange, _: Context) -> None:
        coordinator.run(exchange)

    run_in_process(make_server_app(run), make_client_app(nodes), node_configs(nodes))
    return records[-1]


def _auc(seed: int, compression: Compression) -> float:
    config = SimulationConfig.model_validate(_simulation(seed, compression))
    with tempfile.TemporaryDirectory() as folder:
        result = run_simulation(config, Path(folder) / "work", Silent(), "bench deploy")
    auc = result.arms[0].final["dkt"].all["auc"]
    if auc is None:
        raise RuntimeError("the synthetic evaluation learners are all right or all wrong")
    return auc


def _simulation(seed: int, compression: Compression) -> dict[str, Any]:
    """Four synthetic schools that train a tracer of 100 units without noise."""
    levels = {"oak": 0.5, "elm": 0.0, "ash": -0.3, "yew": -0.6}
    schools = [{"name": name, "learners": 150, "level": level} for name, level in levels.items()]
    training = {
        "rounds": 40,
        "sampling_rate": 0.25,
        "server": {"name": "fedadam", "learning_rate": 0.01, "decay": "linear"},
    }
    return {
        "name": "compression",
        "seed": seed,
        "data": {"source": "synthetic", "generator": {"schools": schools}},
        "partition": {"by": "institution"},
        "evaluation": {"share": 0.4},
        "models": [
            {
                "kind": "dkt",
                "spec": {"hidden": HIDDEN, "item_bias": True, "practice": True},
                "private": training,
                "non_private": training,
            }
        ],
        "privacy": {"budget": {"epsilon": 8.0, "delta": 1e-5}},
        "arms": ["federated_non_private"],
        "baselines": False,
        "compression": compression,
        "evaluate_every_rounds": training["rounds"],
    }

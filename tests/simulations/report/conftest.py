import math
from collections.abc import Callable
from typing import Any

import pytest

from cloister_shared.privacy import SampledGaussian
from cloister_shared.privacy.audit_report import AuditReport
from cloister_shared.privacy.figures import PrivateFigure, PrivateFigures
from cloister_simulations.result import (
    Arm,
    Figures,
    Guarantee,
    NodeResult,
    RoundResult,
    SimulationResult,
    Spend,
)

SCHOOLS = {"Ash school": 100, "Birch school": 300, "Cedar school": 125, "Dogwood school": 150}
ROUNDS = 60
MakeResult = Callable[..., SimulationResult]


def tracing(auc: float) -> dict[str, float]:
    return {"auc": auc, "accuracy": 0.6 + (auc - 0.5) / 2, "log_loss": 0.67 - (auc - 0.5) / 2}


def ranking(ndcg: float) -> dict[str, float]:
    return {"hr@10": min(1.0, ndcg * 1.3), "ndcg@10": ndcg, "mrr": ndcg * 0.9}


def figures(metrics: Callable[[float], dict[str, float]], value: float) -> Figures:
    by_school = {
        name: metrics(value + 0.02 * math.sin(3 * place + 20 * value))
        for place, name in enumerate(SCHOOLS)
    }
    return Figures(all=metrics(value), by_institution=by_school)


def round_result(number: int, private: bool, auc: float, ndcg: float) -> RoundResult:
    progress = 1 - math.exp(-number / 15)
    return RoundResult(
        round=number,
        seconds=0.31,
        bytes_down=4 * 61_440,
        bytes_up=(4 if number != 17 else 3) * 61_440,
        participants=tuple(SCHOOLS if number != 17 else list(SCHOOLS)[:3]),
        rejected={} if number != 17 else {"Dogwood school": "not_finite"},
        private_metrics=released(auc, number == ROUNDS) if private and not number % 30 else {},
        metrics={
            "dkt": tracing(0.55 + (auc - 0.55) * progress + 0.002 * math.sin(number)),
            "recommender": ranking(0.05 + (ndcg - 0.05) * progress),
        },
    )


def released(auc: float, is_clear: bool) -> dict[str, PrivateFigures]:
    """The tracer's; of the recommender the noise left nothing."""
    figure = PrivateFigure(value=auc + 0.0123, noise_deviation=0.0345)
    return {
        "dkt": {"auc": figure if is_clear else None},
        "recommender": {"hr@10": None, "ndcg@10": None},
    }


def arm(name: str, private: bool, auc: float, ndcg: float, rounds: int = ROUNDS) -> Arm:
    return Arm(
        name=name,
        private=private,
        rounds=tuple(round_result(number, private, auc, ndcg) for number in range(1, rounds + 1)),
        final={"dkt": figures(tracing, auc), "recommender": figures(ranking, ndcg)},
        seconds=21.4,
    )


def node(name: str, size: int) -> NodeResult:
    spend = Spend(epsilon_pld=3.38 + size / 5000, epsilon_rdp=3.71 + size / 5000)
    evaluation = Spend(role="evaluation", epsilon_pld=0.42, epsilon_rdp=0.47)
    return NodeResult(
        name=name,
        declared_size=size,
        learners_train=int(size * 0.77),
        learners_evaluation=int(size * 0.19),
        spend=(spend, evaluation),
    )


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Invented numbers of a plausible size; keyword arguments replace fields."""

    def make(**fields: Any) -> SimulationResult:
        arms = (
            arm("federated", True, 0.662, 0.31),
            arm("federated_non_private", False, 0.712, 0.58),
            arm("pooled", False, 0.721, 0.61, rounds=0),
            arm("local_only", False, 0.671, 0.44, rounds=0),
        )
        document: dict[str, Any] = {
            "cloister_version": "0.1.0",
            "created_at": "2026-03-02T09:30:00+00:00",
            "command": "cloister simulate configs/simulation.yaml --json out/result.json",
            "config": {"data": {"name": "assistments2017", "fold": 5}, "rounds": ROUNDS},
            "config_digest": "5f" * 32,
            "seeds": {"noise": 1, "initial weights": 2},
            "machine": {"cpus": 2, "python": "3.11.9", "torch": "2.13.0", "flwr": "1.41.0"},
            "wall_clock_s": 96.3,
            "guarantee": Guarantee(
                kind="learner_level_dp",
                reason="every release was clipped, sampled and noised by the operating system's "
                "generator, and charged before data was read",
                epsilon_limit=4.0,
                delta=1e-6,
            ),
            "nodes": tuple(node(name, size) for name, size in SCHOOLS.items()),
            "arms": arms,
            "baselines": {
                "dkt": {
                    "majority": figures(lambda _: tracing(0.5), 0.5),
                    "best_lr_skills": figures(tracing, 0.659),
                    "best_lr": figures(tracing, 0.7184),
                },
                "recommender": {
                    "popularity": figures(ranking, 0.0123 + 0.03),
                    "item_knn": figures(ranking, 0.509),
                    "markov": figures(ranking, 0.664),
                },
            },
        }
        return SimulationResult.model_validate({**document, **fields})

    return make


@pytest.fixture
def audit_report() -> AuditReport:
    return AuditReport(
        kind="dkt",
        event=SampledGaussian(noise_multiplier=1.0, sampling_rate=1.0, steps=1),
        clip_norm=0.5,
        noise="gaussian",
        delta=1e-6,
        claim=4.887,
        lower_bound=2.907,
        p=1e-3,
        canaries=100_000,
        guesses=2000,
        correct=1897,
        code_version="0.1.0",
    )


@pytest.fixture
def result(make_result: MakeResult) -> SimulationResult:
    return make_result()

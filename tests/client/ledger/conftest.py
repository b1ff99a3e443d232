"""Charges of one small run, and both kinds of ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister_client.ledger import Ledger, MemoryLedger, SqliteLedger
from cloister_shared.privacy import Budget, SampledGaussian
from cloister_shared.privacy.ledger_format import Charge, ModelEvent
from cloister_shared.signing import SigningKey

MakeCharge = Callable[..., Charge]
MakeLedger = Callable[..., Ledger]


@pytest.fixture
def budget() -> Budget:
    return Budget(epsilon=4, delta=1e-6)


@pytest.fixture
def dkt() -> ModelEvent:
    event = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.2, steps=5)
    return ModelEvent(model="dkt", event=event)


@pytest.fixture
def recommender() -> ModelEvent:
    event = SampledGaussian(noise_multiplier=1.5, sampling_rate=0.1, steps=3)
    return ModelEvent(model="recommender", event=event)


@pytest.fixture
def make_charge(dkt: ModelEvent) -> MakeCharge:
    def make_charge(number: int = 1, **changes: Any) -> Charge:
        fields = {
            "run": "autumn",
            "round": number,
            "plan": "p" * 64,
            "request": f"{number:064x}",
            "cohorts": ("2024", "2025"),
            "events": (dkt,),
        }
        return Charge.model_validate({**fields, **changes})

    return make_charge


@pytest.fixture
def price(make_charge: MakeCharge, budget: Budget) -> int:
    """Micro-units that one round of ``make_charge`` costs."""
    cost = make_charge().cost(budget.order)
    assert cost is not None
    return cost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture(params=["sqlite", "memory"])
def make_ledger(
    request: pytest.FixtureRequest, path: Path, budget: Budget, key: SigningKey
) -> MakeLedger:
    def make_ledger(**options: Any) -> Ledger:
        if request.param == "memory":
            return MemoryLedger(budget, **options)
        return SqliteLedger.create(path, budget, key, **options)

    return make_ledger


@pytest.fixture
def ledger(make_ledger: MakeLedger) -> Ledger:
    return make_ledger()

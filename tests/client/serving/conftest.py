"""A node's home with two skills and four exercises, and models to serve from."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_client.serving import create_app
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec

CURRICULUM = Curriculum(
    name="sums",
    skills=(Skill(id="add", name="Adding"), Skill(id="frac", name="Fractions")),
    items=tuple(
        Item(id=f"{skill}/{number}", skills=(skill,), title=f"{skill} {number}")
        for skill in ("add", "frac")
        for number in (1, 2)
    ),
)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome.create(
        tmp_path / "home", NodeConfig(name="school", declared_size=50), CURRICULUM
    )


@pytest.fixture
def trained_home(home: NodeHome) -> NodeHome:
    """A home that has taken part in a run: random weights are active for both kinds."""
    with home.store() as store:
        for spec in (DktSpec(skills=2, hidden=4), RecommenderSpec(items=4, factors=4)):
            weights = spec.initial_weights(CURRICULUM, seed=7)
            version = store.add_model_version(spec, weights, plan_digest="p" * 64, round_number=1)
            store.activate(spec.kind, version.version)
    return home


@pytest.fixture
def client_of():
    """A client of a home's service that sends its token."""
    clients = []

    def client_of(home: NodeHome) -> TestClient:
        client = TestClient(
            create_app(home), headers={"Authorization": f"Bearer {home.api_token()}"}
        )
        clients.append(client.__enter__())
        return client

    yield client_of
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of, trained_home: NodeHome) -> TestClient:
    return client_of(trained_home)

"""Fixed keys, and stores on every database that is at hand.

SQLite always; PostgreSQL where ``CLOISTER_TEST_POSTGRESQL`` holds the SQLAlchemy URL of a database
that these tests may wipe.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cloister_client.histories import Interaction
from cloister_client.ledger import Wish
from cloister_client.store import Pseudonymizer, Store, StoreRules
from cloister_shared.curriculum import Curriculum

POSTGRESQL = "CLOISTER_TEST_POSTGRESQL"

OpenStore = Callable[..., Store]
Ask = Callable[..., None]


@pytest.fixture
def keys() -> Pseudonymizer:
    return Pseudonymizer(b"p" * 32, b"r" * 32, evaluation_share=0.3)


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRESQL in os.environ else ["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database; PostgreSQL too where the environment names one that may be wiped."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    engine = create_engine(os.environ[POSTGRESQL])
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return os.environ[POSTGRESQL]


@pytest.fixture
def open_store(url: str, curriculum: Curriculum, keys: Pseudonymizer) -> Iterator[OpenStore]:
    """Open the database (again); options are rules, or other than usual url, curriculum or keys."""
    opened = []

    def open_one(**options: object) -> Store:
        usual = {"url": url, "curriculum": curriculum, "keys": keys}
        given = {name: options.pop(name, one) for name, one in usual.items()}
        opened.append(Store.open(**given, rules=StoreRules(**options)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


@pytest.fixture
def ask() -> Ask:
    """One learner's wish, as the personal chain would say it."""

    def ask(store: Store, learner: str, **wish: bool) -> None:
        store.follow({store.tombstone(learner): Wish(**wish)})  # type: ignore[arg-type]

    return ask


@pytest.fixture
def answers() -> Callable[..., list[Interaction]]:
    """``count`` answers of one learner, a second apart."""

    def of(learner: str, count: int = 3, start: float = 0.0) -> list[Interaction]:
        return [
            Interaction(learner, f"i{n % 3}", n % 2 == 0, start + n, f"k{n}") for n in range(count)
        ]

    return of

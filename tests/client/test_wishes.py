"""Wishes: into the personal chain first, then into the store; opening does what is left to do."""

from pathlib import Path

import pytest

from cloister_client import wishes
from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_client.ledger import Wish
from cloister_client.store import Store
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ServiceError


@pytest.fixture
def home(tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum) -> NodeHome:
    home = NodeHome.create(tmp_path / "node", node_config, curriculum)
    with home.store() as store:
        answer(store, "ada")
        answer(store, "ben")
    return home


def answer(store: Store, learner: str) -> bool:
    return store.append(learner, Interaction(learner, "i0", True, 1.0, "k"))


def learners(home: NodeHome) -> int:
    with home.store() as store:
        return len(store.learners("serve"))


def test_every_wish_tells_whether_records_are_held(home: NodeHome) -> None:
    with home.personal_chain() as chain, home.store() as store:
        assert wishes.opt_out(chain, store, "ada")
        assert wishes.erase(chain, store, "ada")
        assert not wishes.erase(chain, store, "ada")
        assert not wishes.readmit(chain, store, "ada")
        assert not wishes.opt_in(chain, store, "nobody")
        kept = chain.wishes()
    assert kept[store.tombstone("ada")].consent is False
    assert kept[store.tombstone("nobody")] == Wish(consent=True)


def test_who_is_readmitted_has_the_role_and_cohort_of_before_and_one_budget(
    home: NodeHome, node_config: NodeConfig
) -> None:
    with home.personal_chain() as chain, home.store() as store:
        place = store.place("ada")
        wishes.erase(chain, store, "ada")
        assert not answer(store, "ada")
        wishes.readmit(chain, store, "ada")
    later = node_config.model_copy(
        update={"cohorts": (*node_config.cohorts, "2026"), "evaluation_share": 0.999}
    )
    with NodeHome(home.path, later, home.curriculum).store() as store:
        assert answer(store, "ada")
        assert store.place("ada") == place
        assert answer(store, "cy")
        assert store.place("cy") == ("evaluation", "2026")


def test_a_process_that_ends_between_chain_and_store_has_erased_all_the_same(
    home: NodeHome,
) -> None:
    with home.personal_chain() as chain, home.store() as store:
        chain.append("ERASE", store.tombstone("ada"), *(store.place("ada") or ()))
    assert learners(home) == 1


def test_an_older_store_that_is_put_back_brings_nobody_back(home: NodeHome) -> None:
    old = (home.path / "store.sqlite").read_bytes()
    with home.personal_chain() as chain, home.store() as store:
        wishes.erase(chain, store, "ada")
        wishes.opt_out(chain, store, "ben")
    (home.path / "store.sqlite").write_bytes(old)
    with home.store() as store:
        assert store.learners("serve") == [store.pseudonym("ben")]
        assert store.counts().eligible_for_training == 0
        assert not answer(store, "ada")


def test_a_file_that_could_not_be_written_anew_is_when_the_store_is_opened_next(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister_client.store.database.BUSY_TIMEOUT_S", 0.1)
    with home.personal_chain() as chain, home.store() as store:
        pseudonym = store.pseudonym("ada").encode()
        with home.store() as reader, reader._database.read() as reading:
            reading.exec_driver_sql("SELECT * FROM learners").all()
            with pytest.raises(ServiceError, match="tried again when the store is opened next"):
                wishes.erase(chain, store, "ada")
        assert any(pseudonym in file.read_bytes() for file in home.path.glob("store.*"))
    assert learners(home) == 1
    assert not any(pseudonym in file.read_bytes() for file in home.path.glob("store.*"))

"""Migrations, identity, and several processes on one database."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from cloister_client.histories import Interaction
from cloister_client.store import Pseudonymizer, Store
from cloister_client.store.database import Database, upgrade
from cloister_client.store.tables import METADATA
from cloister_shared.curriculum import Curriculum, Item
from cloister_shared.errors import ConfigError, ServiceError

Answers = Callable[..., list[Interaction]]
OpenStore = Callable[..., Store]


def test_migrations_lead_from_nothing_to_exactly_the_tables(url: str) -> None:
    database = Database(url)
    with database.prepare(str) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_wishes_under_pseudonyms_are_carried_over_to_tombstones(
    url: str, open_store: OpenStore, keys: Pseudonymizer, answers: Answers
) -> None:
    """A store of the first revision, in which ada and ben said no to something, cy is erased."""
    ada, ben, cy = (keys.pseudonym(name) for name in ("ada", "ben", "cy"))
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, keys.tombstone, "0001")
        connection.execute(
            text(
                "INSERT INTO learners (pseudonym, cohort, role, created) "
                "VALUES (:a, 'all', 'train', 0)"
            ),
            {"a": ada},
        )
        connection.execute(
            text(
                'INSERT INTO interactions (learner_id, fingerprint, item, correct, "when") '
                "VALUES (1, :fingerprint, 0, :correct, 1)"
            ),
            {"fingerprint": b"f" * 16, "correct": True},
        )
        for pseudonym, purpose, granted in (
            (ada, "train", True),
            (ada, "evaluate", False),
            (ben, "train", False),
            (cy, "train", True),
        ):
            connection.execute(
                text("INSERT INTO consents VALUES (:pseudonym, :purpose, :granted, 0)"),
                {"pseudonym": pseudonym, "purpose": purpose, "granted": granted},
            )
        connection.execute(text("INSERT INTO erasures VALUES (:cy, 0)"), {"cy": cy})
    engine.dispose()
    store = open_store()
    assert store.counts().interactions == 1
    report = store.import_interactions([*answers("ada"), *answers("ben"), *answers("cy")])
    assert (report.learners_added, report.of_erased) == (1, 3)
    assert store.learners("train") == store.learners("evaluate") == []
    engine = create_engine(url)
    with engine.begin() as connection:
        wishes = connection.execute(text("SELECT tombstone, consent, erased FROM wishes")).all()
    engine.dispose()
    assert {tuple(row) for row in wishes} == {
        (keys.tombstone(ada), False, False),
        (keys.tombstone(ben), False, False),
        (keys.tombstone(cy), True, True),
    }


def test_opening_again_migrates_nothing_and_keeps_everything(
    open_store: OpenStore, answers: Answers
) -> None:
    open_store().import_interactions(answers("ada"))
    assert open_store().counts().interactions == 3


def test_a_newer_releases_store_is_refused(open_store: OpenStore, url: str) -> None:
    open_store().close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match=r"newer release of Cloister \(revision 9999\)"):
        open_store()


def test_other_keys_are_refused(open_store: OpenStore) -> None:
    open_store().close()
    with pytest.raises(ConfigError, match="the keys are not those"):
        open_store(keys=Pseudonymizer(b"x" * 32, b"r" * 32, 0.2))


def test_a_simulations_store_never_becomes_a_real_one(open_store: OpenStore) -> None:
    open_store(simulation=True).close()
    with pytest.raises(ConfigError, match="made with simulation: true, the config says false"):
        open_store()


def test_a_curriculum_that_only_appends_is_taken_over(
    open_store: OpenStore, curriculum: Curriculum, answers: Answers
) -> None:
    open_store().import_interactions(answers("ada"))
    items = (*curriculum.items, Item(id="i3", skills=("s0",)))
    later = curriculum.model_copy(update={"version": 2, "items": items})
    store = open_store(curriculum=Curriculum.model_validate(later.model_dump()))
    assert store.append("ada", Interaction("ada", "i3", True, 9.0, "new"))
    with pytest.raises(ConfigError, match="does not begin with the 4 items"):
        open_store(curriculum=curriculum)


def test_another_curriculum_is_refused(open_store: OpenStore, curriculum: Curriculum) -> None:
    open_store().close()
    turned = Curriculum(name="x", skills=curriculum.skills, items=curriculum.items[::-1])
    with pytest.raises(ConfigError, match="does not begin with the 3 items"):
        open_store(curriculum=turned)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sqlite:////nowhere/at/all/store.sqlite", ServiceError, "cannot open the store"),
        ("mysql+pymysql://someone@localhost/x", ConfigError, "store_url"),
        ("postgresql+pg8000://x/y", ConfigError, r"needs the package pg8000.* '\.\[postgresql\]'"),
        ("not a url", ConfigError, "store_url cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(
    curriculum: Curriculum,
    keys: Pseudonymizer,
    url: str,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        Store.open(url, curriculum, keys)


def test_a_file_that_is_no_database_is_refused_and_kept(
    tmp_path: Path, curriculum: Curriculum, keys: Pseudonymizer
) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("this is not a database, but somebody's letter" * 100)
    before = path.read_bytes()
    with pytest.raises(ServiceError, match="file is not a database"):
        Store.open(f"sqlite:///{path}", curriculum, keys)
    assert path.read_bytes() == before


def test_deleted_rows_are_overwritten_on_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("secure_delete", "foreign_keys", "journal_mode")
        }
    database.close()
    assert pragmas == {"secure_delete": 1, "foreign_keys": 1, "journal_mode": "wal"}


def test_a_file_that_is_written_anew_holds_nothing_of_deleted_rows(tmp_path: Path) -> None:
    """Overwriting alone leaves some: rows move between pages while others come and go."""
    file = tmp_path / "store.sqlite"
    database, chosen = Database(f"sqlite:///{file}"), np.random.default_rng(1)
    kept, gone = [], []
    with database.write() as connection:
        run = connection.exec_driver_sql
        run("CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT)")
        run("CREATE INDEX texts ON rows (text)")
        for number in range(3000):
            if chosen.random() < 0.6 or not kept:
                kept.append(hashlib.sha256(str(number).encode()).hexdigest()[:24])
                length = int(chosen.choice([1, 1, 2, 5, 20, 90, 400]))
                run(
                    "INSERT INTO rows (name, text) VALUES (?, ?)",
                    (kept[-1], kept[-1][::-1] * length),
                )
                continue
            name = kept.pop(chosen.integers(len(kept)))
            if chosen.random() < 0.5:
                kept.append(name)
                run("UPDATE rows SET text = text || 'x' WHERE name = ?", (name,))
            else:
                gone.append(name)
                run("DELETE FROM rows WHERE name = ?", (name,))
    database.write_anew()
    assert not file.with_name("store.sqlite-wal").stat().st_size
    content = file.read_bytes()
    database.close()
    assert all(name.encode() in content for name in kept)
    assert not any(name.encode() in content or name[::-1].encode() in content for name in gone)


def test_one_process_sees_at_once_what_another_wrote(
    open_store: OpenStore, answers: Answers
) -> None:
    serving, training = open_store(), open_store()
    serving.import_interactions(answers("ada", 2))
    learner = [training.pseudonym("ada")]
    assert len(training.load(learner, "serve")[0]) == 2
    serving.append("ada", Interaction("ada", "i0", True, 50.0, "later"))
    assert training.load(learner, "serve")[0].when.tolist() == [0, 1, 50]
    serving.append("ada", Interaction("ada", "i2", True, 0.5, "late arrival"))
    assert training.load(learner, "serve")[0].when.tolist() == [0, 0.5, 1, 50]


def test_writers_of_one_database_wait_for_each_other(open_store: OpenStore) -> None:
    stores = [open_store() for _ in range(4)]

    def write(store: Store, writer: int) -> None:
        for number in range(20):
            learner = f"learner {number}"
            store.append(learner, Interaction(learner, "i0", True, float(writer), "k"))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, stores, range(len(stores))))
    counts = stores[0].counts()
    assert (counts.learners, counts.interactions) == (20, 80)
    histories = stores[1].load(stores[1].learners("serve"), "serve")
    assert {len(history) for history in histories} == {4}


def test_stores_can_be_made_by_several_processes_at_once(
    url: str, curriculum: Curriculum, keys: Pseudonymizer
) -> None:
    with ThreadPoolExecutor() as pool:
        for store in pool.map(lambda _: Store.open(url, curriculum, keys), range(4)):
            assert store.counts().learners == 0
            store.close()


def test_nothing_of_the_store_imports_torch() -> None:
    code = "import cloister_client.commands, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

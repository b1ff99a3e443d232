"""SIGKILL before each SQL statement of a wish, or of an import: all of it is done, or nothing."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.system.consortium import CURRICULUM, make_home
from tests.system.mortal import BEFORE_STATEMENT, Death, Fuse
from tests.system.processes import KILLED
from tests.system.simulated import start

from cloister_client import wishes
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome

pytestmark = pytest.mark.crash

WISHES = {"erase": wishes.erase, "opt_out": wishes.opt_out}
LEARNER = "learner 0"
MORE = 8
"""Learners of an import."""


def record(folder: Path, wish: str, number: int) -> None:
    """Write down a learner's wish, but die before statement ``number``."""
    home = NodeHome.open(folder)
    fuse = mortal(number)
    with home.personal_chain() as chain, home.store() as store:
        fuse.begin("work")
        WISHES[wish](chain, store, LEARNER)
        fuse.begin("close")


def bring(folder: Path, number: int) -> None:
    """Import more learners, but die before statement ``number``."""
    home = NodeHome.open(folder)
    fuse = mortal(number)
    with home.store() as store:
        fuse.begin("work")
        store.import_interactions(more())
        fuse.begin("close")


def mortal(number: int) -> Fuse:
    fuse = Fuse(Death("work", 0, BEFORE_STATEMENT.format(number)))
    fuse.watch()
    return fuse


def more() -> list[Interaction]:
    return [
        Interaction(f"further learner {one}", item.id, True, when, str(when))
        for one in range(MORE)
        for when, item in enumerate(CURRICULUM.items)
    ]


def was_killed(work: Callable[..., None], *arguments: Any) -> bool:
    """Whether a process of its own did not get to the end of ``work``."""
    process = start(work, *arguments)
    process.join(60)
    assert process.exitcode in (0, KILLED)
    return process.exitcode == KILLED


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_is_kept_for_ever_once_it_is_in_the_chain_and_then_opening_does_the_rest(
    tmp_path: Path, wish: str
) -> None:
    kept = []
    for number in count(1):
        home = make_home(tmp_path / f"oak-{number}", learners=3)
        killed = was_killed(record, home.path, wish, number)
        with home.store() as store, home.personal_chain() as chain:  # the store follows the chain
            kept.append(store.tombstone(LEARNER) in chain.wishes())
            pseudonym = store.pseudonym(LEARNER)
            assert (pseudonym in store.learners("train")) != kept[-1]
            assert (pseudonym in store.learners("serve")) == (wish == "opt_out" or not kept[-1])
        if wish == "erase" and kept[-1]:
            assert not mentions(home.path, pseudonym)
        if not killed:
            break
    assert kept == sorted(kept), "once it is kept, it is"
    assert kept.count(False) > 3
    assert kept.count(True) > 3


def test_an_import_is_whole_or_nothing_and_can_be_done_again(tmp_path: Path) -> None:
    home = make_home(tmp_path / "oak", learners=5)
    with home.store() as store:
        before = store.counts().interactions
    for number in count(1):
        killed = was_killed(bring, home.path, number)
        with home.store() as store:
            added = store.counts().interactions - before
        assert added in (0, len(more()))
        if not killed:
            break
    assert number > len(more())
    assert added == len(more())
    with home.store() as store:
        assert store.import_interactions(more()).added == 0


def mentions(folder: Path, pseudonym: str) -> list[str]:
    """Names of files in which it stands, as text or as bytes."""
    forms = (pseudonym.encode(), bytes.fromhex(pseudonym))
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]

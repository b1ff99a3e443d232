"""A learner is in one group of the node's public vocabulary, or in none."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloister_client.histories import Interaction
from cloister_client.store import Store
from cloister_shared.errors import DataError

Answers = Callable[..., list[Interaction]]
OpenStore = Callable[..., Store]
Ask = Callable[..., None]


def of_group(answers: list[Interaction], group: str | None) -> list[Interaction]:
    return [replace(answer, group=group) for answer in answers]


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store(groups=("A", "B"))


def group_of(store: Store, learner: str) -> str | None:
    (group,) = store.groups([store.pseudonym(learner)], "serve")
    return group


def test_importing_again_with_a_group_names_it_and_adds_no_answer(
    store: Store, answers: Answers
) -> None:
    store.import_interactions(answers("ada"))
    assert group_of(store, "ada") is None
    assert store.import_interactions(of_group(answers("ada"), "A")).added == 0
    assert group_of(store, "ada") == "A"


def test_a_later_group_takes_the_place_of_the_earlier_and_none_takes_nothing(
    store: Store, answers: Answers
) -> None:
    for group in ("A", "B", None):
        store.import_interactions(of_group(answers("ada"), group))
    assert group_of(store, "ada") == "B"


def test_a_group_outside_of_the_vocabulary_is_refused_and_not_repeated(
    store: Store, answers: Answers
) -> None:
    """It may be a misplaced column with names in it."""
    with pytest.raises(DataError, match="the group is not one of groups in") as caught:
        store.import_interactions(of_group(answers("ada"), "Ada Lovelace"))
    assert "Lovelace" not in str(caught.value)
    assert store.counts().learners == 0


def test_a_node_without_a_vocabulary_takes_no_groups(
    open_store: OpenStore, answers: Answers
) -> None:
    with pytest.raises(DataError, match="map no group column"):
        open_store().import_interactions(of_group(answers("ada"), "A"))


def test_two_groups_of_one_learner_in_one_file_are_refused(store: Store, answers: Answers) -> None:
    rows = [*of_group(answers("ada", 2), "A"), *of_group(answers("ada", 3)[2:], "B")]
    with pytest.raises(DataError, match="a learner is in one group"):
        store.import_interactions(rows)


def test_the_group_of_who_opted_out_is_not_read_and_goes_with_who_is_erased(
    store: Store, answers: Answers, ask: Ask
) -> None:
    store.import_interactions(of_group(answers("ada"), "A"))
    pseudonym = store.pseudonym("ada")
    role = "train" if pseudonym in store.learners("train") else "evaluate"
    ask(store, "ada", consent=False)
    assert store.groups([pseudonym], role) == [None]
    assert group_of(store, "ada") == "A"
    ask(store, "ada", erased=True)
    store.import_interactions(of_group(answers("ada"), "A"))
    assert group_of(store, "ada") is None

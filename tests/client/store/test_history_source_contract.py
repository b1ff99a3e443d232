"""What every ``HistorySource`` promises, on memory and on the store."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from cloister_client.histories import History, HistorySource, Interaction, MemoryHistorySource
from cloister_client.store import Store
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError
from cloister_shared.privacy.ledger_format import Role

Answers = Callable[..., list[Interaction]]
ROLES: Mapping[str, Role] = {"ada": "train", "ben": "evaluation", "cy": "train", "dee": "train"}
COHORTS = {"ada": "2024", "ben": "2024", "cy": "2025", "dee": "2025"}
GROUPS = {"ada": "A", "cy": "B"}


class Made:
    """A source, and the keys under which it knows four learners."""

    def __init__(self, source: HistorySource, key: Callable[[str], str]) -> None:
        self.source = source
        self.key = key

    def keys(self, *learners: str) -> list[str]:
        return [self.key(learner) for learner in learners]


Make = Callable[[Sequence[Interaction]], Made]


@pytest.fixture(params=["memory", "store"])
def make(
    request: pytest.FixtureRequest, curriculum: Curriculum, open_store: Callable[..., Store]
) -> Make:
    if request.param == "memory":
        return lambda rows: Made(_memory(rows, curriculum), str)

    def stored(rows: Sequence[Interaction]) -> Made:
        store = open_store(simulation=True, groups=("A", "B"))
        for learner in dict.fromkeys(row.learner for row in rows):
            own = [
                replace(row, group=GROUPS.get(learner)) for row in rows if row.learner == learner
            ]
            store.import_interactions(own, COHORTS[learner], ROLES)
        return Made(store, store.pseudonym)

    return stored


def _memory(rows: Sequence[Interaction], curriculum: Curriculum) -> MemoryHistorySource:
    by_learner: dict[str, list[Interaction]] = defaultdict(list)
    for row in rows:
        by_learner[row.learner].append(row)
    histories = {
        learner: History.from_interactions(own, curriculum) for learner, own in by_learner.items()
    }
    return MemoryHistorySource(histories, ROLES, COHORTS, GROUPS)


@pytest.fixture
def four(make: Make, answers: Answers) -> Made:
    return make([row for learner in ROLES for row in answers(learner)])


def test_training_sees_the_train_role_only(four: Made) -> None:
    assert list(four.source.learners("train")) == four.keys("ada", "cy", "dee")


def test_evaluation_sees_the_evaluation_role_only(four: Made) -> None:
    assert list(four.source.learners("evaluate")) == four.keys("ben")


def test_serving_sees_everyone(four: Made) -> None:
    assert list(four.source.learners("serve")) == four.keys(*ROLES)


def test_cohorts_choose_among_the_eligible(four: Made) -> None:
    assert list(four.source.learners("train", ["2025"])) == four.keys("cy", "dee")
    assert list(four.source.learners("train", [])) == []


def test_histories_come_in_the_order_asked_for(make: Make, answers: Answers) -> None:
    made = make([*answers("ada", 2), *answers("cy", 3), *answers("dee", 5)])
    histories = made.source.load(made.keys("dee", "ada", "cy"), "train")
    assert [len(history) for history in histories] == [5, 2, 3]


def test_groups_come_in_the_order_asked_for_and_most_learners_have_none(four: Made) -> None:
    asked = four.keys("dee", "cy", "ada")
    assert four.source.groups(asked, "train") == [None, "B", "A"]
    assert four.source.groups([], "train") == []


def test_no_learners_give_no_histories(four: Made) -> None:
    assert four.source.load([], "train") == []


def test_a_history_holds_what_was_answered(make: Make) -> None:
    rows = [
        Interaction("ada", "i1", True, 10.0, "a"),
        Interaction("ada", "i2", False, 11.5, "b"),
        Interaction("ada", "i0", True, 12.0, "c", skills=("s3", "s2", "s0")),
    ]
    made = make(rows)
    (history,) = made.source.load(made.keys("ada"), "train")
    assert history.items.tolist() == [1, 2, 0]
    assert history.skills.tolist() == [[1, 2, -1], [3, -1, -1], [3, 2, 0]]
    assert history.correct.tolist() == [1, 0, 1]
    assert history.when.tolist() == [10, 11.5, 12]
    types = [
        array.dtype for array in (history.items, history.skills, history.correct, history.when)
    ]
    assert types == [np.int32, np.int32, np.float32, np.float64]


def test_skills_are_as_wide_as_the_history_needs(make: Make) -> None:
    made = make([Interaction("ada", "i0", True, 1.0, "a"), Interaction("cy", "i1", True, 1.0, "a")])
    one, two = made.source.load(made.keys("ada", "cy"), "train")
    assert one.skills.tolist() == [[0]]
    assert two.skills.tolist() == [[1, 2]]


def test_answers_of_one_moment_stay_in_the_order_they_came(make: Make, answers: Answers) -> None:
    made = make([replace(row, when=7.0) for row in answers("ada", 30)])
    (history,) = made.source.load(made.keys("ada"), "train")
    assert history.items.tolist() == [n % 3 for n in range(30)]


def test_an_unknown_item_is_refused_without_naming_the_learner(make: Make) -> None:
    with pytest.raises(DataError, match="the item is not in the curriculum 'fr") as caught:
        make([Interaction("ada", "i9", True, 1.0, "a")])
    assert "ada" not in str(caught.value)
    assert "i9" not in str(caught.value)


def test_an_unknown_skill_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="the skill is not in the curriculum 'fr") as caught:
        make([Interaction("ada", "i0", True, 1.0, "a", skills=("s9",))])
    assert "s9" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE interactions SET item = 99",
        "UPDATE interactions SET item = -1",
        "UPDATE interactions SET skills = '99'",
        "UPDATE interactions SET skills = 'x'",
    ],
)
def test_a_row_that_was_altered_is_a_data_error_that_repeats_nothing_of_it(
    open_store: Callable[..., Store], url: str, answers: Answers, change: str
) -> None:
    store = open_store()
    store.import_interactions(answers("ada"))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    with pytest.raises(DataError, match="was altered: it cannot be read") as caught:
        store.load([store.pseudonym("ada")], "serve")
    assert "99" not in str(caught.value)

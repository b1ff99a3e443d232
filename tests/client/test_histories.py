"""Histories are positions in the public curriculum; a source gives only whom it was asked for."""

import numpy as np
import pytest

from cloister_client.histories import History, Interaction, MemoryHistorySource, SilentSource
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError

from .learners import made_up_history

CURRICULUM = Curriculum(
    name="sums",
    skills=(Skill(id="add"), Skill(id="take")),
    items=(Item(id="1+1", skills=("add",)), Item(id="1+2-3", skills=("take", "add"))),
)


def answer(item: str, correct: bool = True, **more: object) -> Interaction:
    return Interaction("ada", item, correct, when=7.0, key="k", **more)


def test_an_answer_has_the_skills_that_the_curriculum_gives_its_item():
    history = History.from_interactions([answer("1+1"), answer("1+2-3", False)], CURRICULUM)
    assert history.items.tolist() == [0, 1]
    assert history.skills.tolist() == [[0, -1], [1, 0]]
    assert history.correct.tolist() == [1, 0]
    assert history.when.tolist() == [7, 7]
    kinds = [history.items.dtype, history.skills.dtype, history.correct.dtype, history.when.dtype]
    assert kinds == [np.int32, np.int32, np.float32, np.float64]


def test_an_answers_own_skills_come_before_the_curriculums():
    history = History.from_interactions([answer("1+2-3", skills=("add",))], CURRICULUM)
    assert history.skills.tolist() == [[0]]


def test_no_answers_are_an_empty_history():
    history = History.from_interactions([], CURRICULUM)
    assert len(history) == 0
    assert history.skills.shape == (0, 1)


@pytest.mark.parametrize(
    ("interaction", "unknown"),
    [
        (answer("2+2", line=7), "line 7: the item is not in the curriculum 'sums'"),
        (answer("1+1", skills=("divide",)), "the skill is not in the curriculum 'sums'"),
    ],
)
def test_what_the_curriculum_does_not_hold_is_told_by_its_line_and_never_by_id(
    interaction, unknown
):
    with pytest.raises(DataError) as caught:
        History.from_interactions([interaction], CURRICULUM)
    assert str(caught.value) == unknown


def test_a_part_of_a_history_is_a_history():
    part = made_up_history(9, 1, most_skills=2)[3:5]
    assert len(part) == 2
    assert len(part.skills) == len(part.correct) == len(part.when) == 2


SOURCE = MemoryHistorySource(
    {name: made_up_history(size, 1) for size, name in enumerate(("a", "b", "c", "d"))},
    roles={"b": "evaluation", "c": "train"},
    cohorts={"a": "2024", "b": "2024", "c": "2025"},
)


@pytest.mark.parametrize(
    ("purpose", "cohorts", "found"),
    [
        ("train", None, ["a", "c", "d"]),
        ("evaluate", None, ["b"]),
        ("serve", None, ["a", "b", "c", "d"]),
        ("train", ("2024",), ["a"]),
        ("train", ("2024", "2025"), ["a", "c"]),
        ("train", ("all",), ["d"]),
        ("evaluate", ("2025",), []),
        ("train", (), []),
    ],
)
def test_learners_are_those_of_the_role_and_the_cohorts(purpose, cohorts, found):
    assert SOURCE.learners(purpose, cohorts) == found


def test_histories_come_in_the_order_in_which_they_were_asked_for():
    assert [len(one) for one in SOURCE.load(["d", "a", "c"], "train")] == [3, 0, 2]


class Unreadable(MemoryHistorySource):
    """Holds one learner whose records cannot be used."""

    def load(self, learners, purpose):
        if "broken" in learners:
            raise DataError("an answer was altered")
        return super().load(learners, purpose)


def test_of_learners_who_are_read_together_only_the_one_who_cannot_be_used_is_left_out():
    source = Unreadable({"ada": made_up_history(3, 1), "ben": made_up_history(2, 2)})
    found = SilentSource(source).load(["ada", "broken", "ben"], "train")
    assert [len(history) for history in found] == [3, 0, 2]
    assert found[0] is source.histories["ada"]

"""Which exercises are offered: zone, prerequisites, interleaving, nothing just answered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.personalization.practice import JUST_ANSWERED, Practice
from cloister_client.personalization.zone import LOWER, UPPER
from cloister_shared.curriculum import Curriculum, Item, Skill

SKILLS, ITEMS_PER_SKILL = 4, 6
CATALOGUE = Curriculum(
    name="four skills in a row",
    skills=tuple(
        Skill(id=f"s{k}", prerequisites=(f"s{k - 1}",) if k else ()) for k in range(SKILLS)
    ),
    items=tuple(
        Item(id=f"s{k}-{n}", skills=(f"s{k}",))
        for k in range(SKILLS)
        for n in range(ITEMS_PER_SKILL)
    ),
)
SKILL = CATALOGUE.item_skills[:, 0]


def history_of(items: list[int]) -> History:
    positions = np.array(items, dtype=np.int32)
    answers = np.ones(len(items), dtype=np.float32)
    return History(
        positions, SKILL[positions][:, None], answers, np.arange(len(items), dtype=float)
    )


def choose(mastery: list[float], items: list[int] | None = None, count: int = 24) -> list[int]:
    known = np.array(mastery, dtype=np.float32)
    chosen = Practice(CATALOGUE).choose(history_of(items or []), known, known[SKILL], count)
    return chosen.tolist()


masteries = st.lists(st.floats(0, 1, width=32), min_size=SKILLS, max_size=SKILLS)
answered = st.lists(st.integers(0, len(CATALOGUE.items) - 1), max_size=30)


@given(mastery=masteries, items=answered)
def test_prerequisites_are_always_known_well_enough(mastery, items):
    for item in choose(mastery, items):
        skill = SKILL[item]
        assert skill == 0 or mastery[skill - 1] >= LOWER


@given(mastery=masteries, items=answered)
def test_the_zone_comes_before_everything_else_and_the_just_answered_last(mastery, items):
    just = set(items[-JUST_ANSWERED:])
    chosen = choose(mastery, items)
    ranks = [(item in just, not LOWER <= mastery[SKILL[item]] <= UPPER) for item in chosen]
    assert ranks == sorted(ranks)


@given(mastery=masteries, items=answered, count=st.integers(0, 30))
def test_fewer_exercises_are_the_first_of_more(mastery, items, count):
    chosen = choose(mastery, items, count)
    assert chosen == choose(mastery, items)[:count]
    assert len(set(chosen)) == len(chosen)


def test_skills_in_the_zone_alternate_and_the_nearest_to_the_target_leads():
    assert choose([0.65, 0.76, 0.95, 0.3], count=5) == [6, 0, 7, 1, 8]


def test_the_least_practised_exercise_of_a_skill_comes_first():
    rehearsed = [0, 0, 1, 2, 3] + [23] * JUST_ANSWERED
    assert choose([0.7, 0.3, 0.3, 0.3], rehearsed, count=6) == [4, 5, 1, 2, 3, 0]


def test_of_one_skills_exercises_those_in_the_zone_and_nearest_to_the_target_come_first():
    success = np.full(len(CATALOGUE.items), 0.3, dtype=np.float32)
    success[:ITEMS_PER_SKILL] = [0.95, 0.65, 0.2, 0.74, 0.8, 0.92]
    mastery = np.full(SKILLS, 0.3, dtype=np.float32)
    chosen = Practice(CATALOGUE).choose(history_of([]), mastery, success, count=6)
    assert chosen.tolist() == [3, 4, 1, 5, 0, 2]


def test_a_learner_beyond_the_zone_is_still_given_the_hardest():
    assert SKILL[choose([0.99, 0.98, 0.97, 0.96])[0]] == 3


def test_a_beginner_below_the_zone_is_still_given_the_open_exercises():
    assert choose([0.3, 0.3, 0.3, 0.3]) == list(range(ITEMS_PER_SKILL))


@pytest.mark.parametrize(("item", "before"), [(0, []), (6, [0]), (23, [2])])
def test_prerequisites_of_an_item_are_those_of_its_skills(item: int, before: list[int]):
    assert Practice(CATALOGUE).prerequisites(item).tolist() == before

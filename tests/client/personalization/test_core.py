"""What the core answers, and that carried states are never wrong."""

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister_client.personalization import Personalization
from cloister_client.personalization.carried_state import FINGERPRINT_BYTES
from cloister_shared.curriculum import Curriculum, Skill
from cloister_shared.errors import ConfigError, DataError, ServiceError


def answer_all(personalization, learner: str, *answers: tuple[str, bool]) -> None:
    for position, (item, correct) in enumerate(answers):
        personalization.answer(learner, item, correct, float(position), f"key {position}")


def test_without_a_model_the_core_says_so_and_still_keeps_answers(personalization, store):
    for ask in (
        lambda: personalization.mastery("ada"),
        lambda: personalization.next("ada", 3),
        lambda: personalization.recommendations("ada", 3),
    ):
        with pytest.raises(ServiceError, match="this node has no active"):
            ask()
    receipt = personalization.answer("ada", "a1", True, 0.0, "k")
    assert (receipt.stored, receipt.skills) == (True, ())
    assert personalization.versions() == {"dkt": None, "recommender": None}
    assert len(store.answers["pseudonym of ada"]) == 1


def test_an_unknown_learner_gets_a_beginners_values_and_leaves_no_trace(
    personalization, store, activate
):
    activate()
    mastery = personalization.mastery("nobody")
    assert [skill.reason for skill in mastery.skills] == ["no answers yet"] * 3
    assert personalization.next("nobody", 2).items[0].reason.startswith("no answers yet, beginners")
    assert "no answers yet" in personalization.recommendations("nobody", 1).items[0].reason
    assert (store.saves, dict(store.answers)) == (0, {})


def test_an_answer_goes_on_from_the_carried_state_and_reading_changes_nothing(
    personalization, store, activate
):
    activate()
    answer_all(personalization, "ada", ("a1", True), ("f1", False))
    ((key, (answers, blob)),) = store.states.items()
    store.states[key] = (answers, blob[:FINGERPRINT_BYTES] + bytes(len(blob) - FINGERPRINT_BYTES))
    personalization.answer("ada", "a2", True, 10.0, "from a state of zeros")
    from_zeros = personalization.mastery("ada")
    personalization.next("ada", 3)
    assert store.saves == 3
    store.states.clear()
    assert personalization.mastery("ada") != from_zeros


def test_the_same_answer_twice_changes_nothing(personalization, store, activate):
    activate()
    first = personalization.answer("ada", "a1", True, 0.0, "k")
    again = personalization.answer("ada", "a1", True, 0.0, "k")
    assert (first.stored, again.stored) == (True, False)
    assert first.skills == again.skills
    assert store.saves == 1


answers = st.lists(
    st.tuples(
        st.sampled_from(["a1", "a2", "f1", "f2", "af", "mix"]), st.booleans(), st.integers(0, 20)
    ),
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=answers)
def test_in_whatever_order_answers_arrive_the_state_is_that_of_a_replay(
    answers, store, curriculum, activate
):
    store.answers.clear()
    store.states.clear()
    activate()
    carrying = Personalization(store, curriculum)
    for position, (item, correct, when) in enumerate(answers):
        carrying.answer("ada", item, correct, float(when), f"key {position}")
    carried = carrying.mastery("ada")
    store.states.clear()
    assert Personalization(store, curriculum).mastery("ada") == carried


def test_answers_that_another_process_stored_are_caught_up(
    personalization, store, curriculum, activate
):
    activate()
    answer_all(personalization, "ada", ("a1", True), ("a2", True))
    del store.models["dkt"]
    personalization.answer("ada", "f1", False, 9.0, "imported while no model was active")
    activate()
    caught_up = personalization.mastery("ada")
    store.states.clear()
    assert caught_up == personalization.mastery("ada")


def test_a_new_model_version_replays_once(personalization, store, activate):
    activate(seed=1)
    answer_all(personalization, "ada", ("a1", True), ("f1", False))
    activate(seed=2)
    saves = store.saves
    new = personalization.mastery("ada")
    assert new == personalization.mastery("ada")
    assert (new.model, store.saves) == ("dkt-2", saves + 1)


def test_answers_that_were_erased_no_longer_count(personalization, store, activate):
    activate()
    empty = personalization.mastery("ada")
    answer_all(personalization, "ada", ("a1", True), ("f1", False))
    store.answers.clear()
    assert personalization.mastery("ada") == empty


def test_mastery_counts_the_answers_of_each_skill(personalization, activate_constant_tracer):
    activate_constant_tracer(0.95, 0.7, 0.2)
    answer_all(personalization, "ada", ("a1", True), ("mix", False), ("f1", False), ("f2", False))
    mastery = personalization.mastery("ada")
    assert mastery.answers == 4
    assert [(one.skill, one.name, one.level, one.answers) for one in mastery.skills] == [
        ("add", "Adding", "secure", 2),
        ("frac", "Fractions", "learning", 3),
        ("addfrac", "Adding fractions", "not yet", 0),
    ]
    assert [one.reason for one in mastery.skills] == [
        "1 of 2 answers right",
        "all 3 answers wrong",
        "no answers yet, judged by 4 to other skills",
    ]


def test_next_offers_what_is_within_reach_with_its_text(personalization, activate_constant_tracer):
    activate_constant_tracer(0.7, 0.95, 0.76)
    first, second = personalization.next("ada", 2).items
    assert first.title == "A half and a quarter"
    assert first.skills == ("addfrac",)
    assert first.success == pytest.approx(0.76, abs=1e-6)
    assert (second.item, second.text, second.format) == ("a1", "13 + 4 = ?", "number")
    personalization.answer("ada", "af", True, 0.0, "k")
    assert "af" not in [one.item for one in personalization.next("ada", 5).items]
    assert personalization.next("ada", 6).items[-1].reason.endswith("nothing else is left")


def test_recommendations_are_new_to_the_learner_and_say_what_they_follow(
    personalization, activate, activate_constant_tracer
):
    activate(kinds=["recommender"])
    activate_constant_tracer(0.82, 0.7, 0.5)
    answer_all(personalization, "ada", ("f1", True), ("f2", True))
    items = personalization.recommendations("ada", 10).items
    assert {one.item for one in items} == {"a1", "a2", "af", "mix"}
    assert items[0].item == "af"
    assert items[0].reason == (
        "often follows 'Quarters', which you did last; you know 'Adding' (82 %), which it builds on"
    )


def test_recommendations_need_no_tracer(personalization, activate):
    activate(kinds=["recommender"])
    personalization.answer("ada", "a1", True, 0.0, "k")
    assert [one.success for one in personalization.recommendations("ada", 2).items] == [None, None]


def test_a_learner_who_has_met_everything_gets_no_recommendation(personalization, activate):
    activate()
    answer_all(personalization, "ada", *((i, True) for i in ("a1", "a2", "f1", "f2", "af", "mix")))
    assert personalization.recommendations("ada", 3).items == ()


def test_an_unknown_item_is_refused_and_stores_nothing(personalization, store):
    with pytest.raises(DataError, match="item 'zz' is not in the curriculum 'sums'"):
        personalization.answer("ada", "zz", True, 0.0, "k")
    assert not store.answers


def test_a_model_of_another_size_is_refused(store, curriculum, activate):
    activate()
    wider = Curriculum.model_validate(
        curriculum.model_copy(update={"skills": (*curriculum.skills, Skill(id="new"))})
    )
    with pytest.raises(ConfigError, match="the DKT spec has 3 skills, the curriculum 'sums' has 4"):
        Personalization(store, wider).mastery("ada")


def test_nothing_is_logged(personalization, activate, caplog):
    activate()
    with caplog.at_level(logging.DEBUG):
        answer_all(personalization, "ada", ("a1", True), ("f1", False))
        personalization.mastery("ada")
        personalization.next("ada", 3)
        personalization.recommendations("ada", 3)
    assert not caplog.records

"""Who may be read for what; it is asked afresh at every read."""

from collections.abc import Callable

import pytest

from cloister_client.histories import Interaction
from cloister_client.ledger import Wish
from cloister_client.store import Activity, ImportReport, Store
from cloister_client.store.consent import CONSENT_PURPOSES, ConsentPurpose
from cloister_shared.privacy.ledger_format import Role

Answers = Callable[..., list[Interaction]]
OpenStore = Callable[..., Store]
Ask = Callable[..., None]


@pytest.fixture
def filled(open_store: OpenStore, answers: Answers) -> Store:
    store = open_store(simulation=True)
    rows = [*answers("ada"), *answers("ben")]
    store.import_interactions(rows, roles={"ada": "train", "ben": "train"})
    return store


def test_one_who_opts_out_is_not_trained_on_but_served(filled: Store, ask: Ask) -> None:
    ask(filled, "ada", consent=False)
    assert filled.learners("train") == [filled.pseudonym("ben")]
    assert len(filled.learners("serve")) == 2


def test_an_opt_out_holds_for_one_who_was_listed_just_before(filled: Store, ask: Ask) -> None:
    listed = filled.learners("train")
    assert [len(history) for history in filled.load(listed, "train")] == [3, 3]
    ask(filled, "ada", consent=False)
    assert [len(history) for history in filled.load(listed, "train")] == [0, 3]
    assert [len(history) for history in filled.load(listed, "serve")] == [3, 3]


def test_a_learner_of_one_role_is_not_read_for_the_other(filled: Store) -> None:
    assert [len(history) for history in filled.load(filled.learners("train"), "evaluate")] == [0, 0]


def test_one_may_change_ones_mind(filled: Store, ask: Ask) -> None:
    ask(filled, "ada", consent=False)
    ask(filled, "ada", consent=True)
    assert len(filled.learners("train")) == 2


def test_an_opt_out_waits_for_a_learner_who_is_not_there_yet(
    store: Store, answers: Answers, ask: Ask
) -> None:
    ask(store, "ada", consent=False)
    store.import_interactions(answers("ada"))
    assert [store.learners(purpose) for purpose in CONSENT_PURPOSES] == [[], [], []]


@pytest.mark.parametrize("purpose", CONSENT_PURPOSES)
def test_where_consent_is_asked_for_silence_is_a_no(
    open_store: OpenStore, answers: Answers, purpose: ConsentPurpose, ask: Ask
) -> None:
    store = open_store(consent="opt_in", simulation=True)
    role = "evaluation" if purpose == "evaluate" else "train"
    store.import_interactions([*answers("ada"), *answers("ben")], roles={"ada": role, "ben": role})
    assert store.learners(purpose) == []
    ask(store, "ben", consent=True)
    assert store.learners(purpose) == [store.pseudonym("ben")]
    assert len(store.learners("serve")) == 2


def test_erasing_deletes_every_row_of_a_learner_and_no_one_elses(filled: Store, ask: Ask) -> None:
    for learner in ("ada", "ben"):
        filled.append_activity(learner, Activity("watched", 5.0, "k"))
    ask(filled, "ada", erased=True)
    counts = filled.counts()
    assert (counts.learners, counts.interactions, counts.activities) == (1, 3, 1)
    assert filled.learners("serve") == [filled.pseudonym("ben")]
    assert [len(history) for history in filled.load([filled.pseudonym("ada")], "serve")] == [0]


def test_erasing_one_who_is_not_there_erases_nobody(filled: Store, ask: Ask) -> None:
    ask(filled, "nobody", erased=True)
    assert filled.counts().learners == 2


def test_whoever_comes_back_has_the_role_and_cohort_of_before(
    open_store: OpenStore, answers: Answers
) -> None:
    """A new term, or another share of evaluation learners, would be a second budget."""
    store = open_store(cohort="2025")
    tombstone = store.tombstone("ada")
    role: Role = (
        "train" if store._keys.role(store.pseudonym("ada")) == "evaluation" else "evaluation"
    )
    store.follow({tombstone: Wish(erased=True, role=role, cohort="2024")})
    assert not store.append("ada", answers("ada")[0])
    store.follow({tombstone: Wish(erased=False, role=role, cohort="2024")})
    assert store.append("ada", answers("ada")[0])
    assert store.place("ada") == (role, "2024")


def test_what_was_said_before_an_erasure_holds_after_it(
    filled: Store, ask: Ask, answers: Answers
) -> None:
    ask(filled, "ada", consent=False, erased=True)
    ask(filled, "ada", consent=False, erased=False)
    filled.import_interactions(answers("ada"), roles={"ada": "train"})
    assert filled.learners("train") == [filled.pseudonym("ben")]


def test_an_import_does_not_bring_the_erased_back(
    filled: Store, answers: Answers, ask: Ask
) -> None:
    ask(filled, "ada", erased=True)
    report = filled.import_interactions([*answers("ada", 4), *answers("ben", 4)])
    assert report == ImportReport(added=1, already_there=3, learners_added=0, of_erased=4)
    assert not filled.append("ada", answers("ada", 1)[0])
    assert not filled.append_activity("ada", Activity("watched", 5.0, "k"))
    assert filled.counts().learners == 1


def test_an_activity_is_kept_once(store: Store) -> None:
    activity = Activity("asked for a hint", 5.0, "k", item="i1")
    assert store.append_activity("ada", activity)
    assert not store.append_activity("ada", activity)
    assert store.append_activity("ada", Activity("asked for a hint", 6.0, "k", item="i1"))
    assert store.counts().activities == 2


def test_counts_tell_who_may_be_trained_on(filled: Store, ask: Ask) -> None:
    ask(filled, "ada", consent=False)
    counts = filled.counts()
    assert counts.learners == 2
    assert (counts.eligible_for_training, counts.eligible_for_evaluation) == (1, 0)


def test_learners_who_come_by_themselves_join_the_current_term(
    open_store: OpenStore, answers: Answers
) -> None:
    store = open_store(cohort="2025")
    store.append("ada", answers("ada")[0])
    store.append_activity("ben", Activity("watched", 5.0, "k"))
    assert len(store.learners("serve", ["2025"])) == 2
    assert store.learners("serve", ["all"]) == []

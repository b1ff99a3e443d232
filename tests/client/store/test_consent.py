"""Who may be read for what; it is asked afresh at every read."""

from collections.abc import Callable

import pytest

from cloister_client.histories import Interaction
from cloister_client.store import Activity, ImportReport, Store
from cloister_client.store.consent import CONSENT_PURPOSES, ConsentPurpose

Answers = Callable[..., list[Interaction]]
OpenStore = Callable[..., Store]


@pytest.fixture
def filled(open_store: OpenStore, answers: Answers) -> Store:
    store = open_store(simulation=True)
    rows = [*answers("ada"), *answers("ben")]
    store.import_interactions(rows, roles={"ada": "train", "ben": "train"})
    return store


def test_one_who_opts_out_is_not_trained_on_but_served(filled: Store) -> None:
    assert filled.set_consent("ada", "train", granted=False)
    assert filled.learners("train") == [filled.pseudonym("ben")]
    assert len(filled.learners("serve")) == 2


def test_an_opt_out_holds_for_one_who_was_listed_just_before(filled: Store) -> None:
    listed = filled.learners("train")
    assert [len(history) for history in filled.load(listed, "train")] == [3, 3]
    filled.set_consent("ada", "train", granted=False)
    assert [len(history) for history in filled.load(listed, "train")] == [0, 3]
    assert [len(history) for history in filled.load(listed, "serve")] == [3, 3]


def test_a_learner_of_one_role_is_not_read_for_the_other(filled: Store) -> None:
    assert [len(history) for history in filled.load(filled.learners("train"), "evaluate")] == [0, 0]


def test_one_may_change_ones_mind(filled: Store) -> None:
    filled.set_consent("ada", "train", granted=False)
    filled.set_consent("ada", "train", granted=True)
    assert len(filled.learners("train")) == 2


def test_an_opt_out_waits_for_a_learner_who_is_not_there_yet(
    store: Store, answers: Answers
) -> None:
    for purpose in CONSENT_PURPOSES:
        assert not store.set_consent("ada", purpose, granted=False)
    store.import_interactions(answers("ada"))
    assert [store.learners(purpose) for purpose in CONSENT_PURPOSES] == [[], [], []]


@pytest.mark.parametrize("purpose", CONSENT_PURPOSES)
def test_where_consent_is_asked_for_silence_is_a_no(
    open_store: OpenStore, answers: Answers, purpose: ConsentPurpose
) -> None:
    store = open_store(consent="opt_in", simulation=True)
    role = "evaluation" if purpose == "evaluate" else "train"
    store.import_interactions([*answers("ada"), *answers("ben")], roles={"ada": role, "ben": role})
    assert store.learners(purpose) == []
    store.set_consent("ben", purpose, granted=True)
    assert store.learners(purpose) == [store.pseudonym("ben")]
    assert len(store.learners("serve")) == 2


def test_erasing_deletes_every_row_of_a_learner_and_no_one_elses(filled: Store) -> None:
    for learner in ("ada", "ben"):
        filled.append_activity(learner, Activity("watched", 5.0, "k"))
    assert filled.erase("ada")
    counts = filled.counts()
    assert (counts.learners, counts.interactions, counts.activities) == (1, 3, 1)
    assert filled.learners("serve") == [filled.pseudonym("ben")]
    assert [len(history) for history in filled.load([filled.pseudonym("ada")], "serve")] == [0]


def test_erasing_one_who_is_not_there_says_so(filled: Store) -> None:
    assert not filled.erase("nobody")
    assert filled.counts().learners == 2


def test_an_import_does_not_bring_the_erased_back(filled: Store, answers: Answers) -> None:
    filled.erase("ada")
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


def test_counts_tell_who_may_be_trained_on(filled: Store) -> None:
    filled.set_consent("ada", "train", granted=False)
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

"""Importing answers: all or nothing, and the same answer once."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister_client.histories import History, Interaction
from cloister_client.ledger import Wish
from cloister_client.store import ImportReport, Pseudonymizer, Store
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, DataError

Answers = Callable[..., list[Interaction]]
OpenStore = Callable[..., Store]


def test_importing_the_same_file_twice_changes_nothing(store: Store, answers: Answers) -> None:
    rows = [*answers("ada"), *answers("ben")]
    assert store.import_interactions(rows) == ImportReport(6, 0, 2, 0)
    before = store.counts()
    assert store.import_interactions(rows) == ImportReport(0, 6, 0, 0)
    assert store.counts() == before


def test_a_longer_export_adds_only_what_is_new(store: Store, answers: Answers) -> None:
    store.import_interactions(answers("ada", 3))
    report = store.import_interactions([*answers("ada", 5), *answers("ben", 1)])
    assert report == ImportReport(added=3, already_there=3, learners_added=1, of_erased=0)


def test_a_row_that_stands_twice_in_a_file_counts_once(store: Store, answers: Answers) -> None:
    report = store.import_interactions(answers("ada", 2) * 2)
    assert report == ImportReport(added=2, already_there=2, learners_added=1, of_erased=0)


def test_equal_answers_with_other_keys_are_two(store: Store) -> None:
    row = Interaction("ada", "i0", True, 1.0, "first")
    assert store.import_interactions([row, dataclasses.replace(row, key="second")]).added == 2


def test_the_same_answer_of_two_learners_is_two(store: Store, answers: Answers) -> None:
    assert store.import_interactions([*answers("ada", 1), *answers("ben", 1)]).added == 2


def test_a_bad_row_leaves_nothing_half_imported(store: Store, answers: Answers) -> None:
    store.import_interactions(answers("ada", 2))
    before = store.counts()
    rows = [*answers("ada", 5), *answers("ben"), Interaction("cy", "nowhere", True, 1.0, "k")]
    with pytest.raises(DataError, match="answer 9: the item is not in"):
        store.import_interactions(rows)
    assert store.counts() == before


def test_a_file_that_breaks_off_leaves_nothing_half_imported(
    store: Store, answers: Answers
) -> None:
    def broken() -> Iterator[Interaction]:
        yield from answers("ada")
        raise DataError("the file ends in the middle of a row")

    with pytest.raises(DataError, match="ends in the middle"):
        store.import_interactions(broken())
    assert store.counts().learners == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"when": float("nan")}, "the time is not a finite number"),
        ({"learner": ""}, "the learner's id is empty"),
        ({"skills": ("s9",)}, "the skill is not in"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    store: Store, answers: Answers, change: dict[str, object], message: str
) -> None:
    rows = answers("ada", 2)
    with pytest.raises(DataError, match=f"answer 2: {message}"):
        store.import_interactions([rows[0], dataclasses.replace(rows[1], **change)])


def test_unknown_items_and_skills_are_told_at_once_by_their_lines_and_not_by_name(
    store: Store, answers: Answers
) -> None:
    rows = [
        dataclasses.replace(row, item="Zoë, K.", line=line)
        for line, row in enumerate(answers("ada", 9), start=2)
    ]
    rows[3] = dataclasses.replace(rows[3], item="i0", skills=("Ada L.",))
    with pytest.raises(DataError) as caught:
        store.import_interactions(rows)
    assert str(caught.value) == (
        "lines 2, 3, 4, 6, 7 and 3 more: the item is not in the curriculum 'fractions'; "
        "line 5: the skill is not in the curriculum 'fractions'; nothing was imported"
    )


def test_numpys_numbers_are_the_same_answer(store: Store) -> None:
    store.append("ada", Interaction("ada", "i0", True, 1.5, "k"))
    assert not store.append("ada", Interaction("ada", "i0", np.True_, np.float64(1.5), "k"))


def test_an_empty_file_is_no_mistake(store: Store) -> None:
    assert store.import_interactions([]) == ImportReport(0, 0, 0, 0)


def test_cohort_and_role_stay_those_of_the_first_answer(
    open_store: OpenStore, answers: Answers
) -> None:
    store = open_store(simulation=True)
    store.import_interactions(answers("ada", 1), "2024", {"ada": "evaluation"})
    store.import_interactions(answers("ada", 2), "2025", {"ada": "train"})
    assert store.learners("evaluate", ["2024"]) == [store.pseudonym("ada")]
    assert store.learners("train") == []


def test_roles_are_given_in_simulations_only(store: Store, answers: Answers) -> None:
    with pytest.raises(ConfigError, match="roles are given in simulations only"):
        store.import_interactions(answers("ada"), roles={"ada": "evaluation"})
    assert store.counts().learners == 0


def test_roles_follow_from_the_key_where_none_is_given(
    store: Store, keys: Pseudonymizer, answers: Answers
) -> None:
    names = [f"learner {number}" for number in range(50)]
    store.import_interactions(row for name in names for row in answers(name, 1))
    expected = {name for name in names if keys.role(keys.pseudonym(name)) == "evaluation"}
    assert set(store.learners("evaluate")) == {store.pseudonym(name) for name in expected}
    assert 0 < len(expected) < 50


def test_a_live_answer_is_kept_once(store: Store, answers: Answers) -> None:
    (answer,) = answers("ada", 1)
    assert store.append("ada", answer)
    assert not store.append("ada", answer)
    assert store.counts().interactions == 1


def test_no_file_holds_a_learners_id(
    tmp_path: Path, curriculum: Curriculum, keys: Pseudonymizer
) -> None:
    learner = "Ottilie.Sentinel@school.example"
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}", curriculum, keys) as store:
        store.append(learner, Interaction(learner, "i0", True, 1.0, f"attempt of {learner}"))
        store.follow({store.tombstone(learner): Wish(consent=False)})
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert store.pseudonym(learner).encode() in written
    assert b"Sentinel" not in written


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_however_answers_are_split_into_files_the_histories_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    curriculum: Curriculum,
    keys: Pseudonymizer,
    answers: Answers,
    data: st.DataObject,
) -> None:
    rows = [*answers("ada", 6), *answers("ben", 4, start=100)]
    files = data.draw(
        st.lists(st.lists(st.sampled_from(rows), max_size=8), max_size=4).map(
            lambda drawn: [*drawn, rows]
        )
    )
    files = data.draw(st.permutations(files))
    folder = tmp_path_factory.mktemp("split")
    with Store.open(f"sqlite:///{folder / 'store.sqlite'}", curriculum, keys) as store:
        for file in files:
            store.import_interactions(file)
            store.load(store.learners("serve"), "serve")
        for learner in ("ada", "ben"):
            (found,) = store.load([store.pseudonym(learner)], "serve")
            own = [row for row in rows if row.learner == learner]
            expected = History.from_interactions(own, curriculum)
            assert found.items.tolist() == expected.items.tolist()
            assert found.when.tolist() == expected.when.tolist()
            assert found.skills.tolist() == expected.skills.tolist()

"""Model versions and what they remember of learners."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from cloister_client.histories import Interaction
from cloister_client.store import Pseudonymizer, Store
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError, MessageError
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec

OpenStore = Callable[..., Store]
Ask = Callable[..., None]
SPEC = DktSpec(skills=4, hidden=2)
PLAN = "a" * 64


@pytest.fixture
def weights(curriculum: Curriculum) -> Weights:
    return SPEC.initial_weights(curriculum, seed=1)


def test_a_version_comes_back_as_it_was_released(store: Store, weights: Weights) -> None:
    added = store.add_model_version(SPEC, weights, PLAN, 3)
    store.activate("dkt", added.version)
    found = store.active_model("dkt")
    assert found is not None
    assert (found.version, found.spec, found.plan, found.round) == (added.version, SPEC, PLAN, 3)
    assert {name: array.tolist() for name, array in found.weights.items()} == {
        name: array.tolist() for name, array in weights.items()
    }


def test_a_new_version_is_not_served_before_it_is_activated(store: Store, weights: Weights) -> None:
    store.add_model_version(SPEC, weights, PLAN, 1)
    assert store.active_model("dkt") is None


def test_one_version_of_a_kind_is_active_and_an_older_one_can_be_again(
    store: Store, curriculum: Curriculum, weights: Weights
) -> None:
    first = store.add_model_version(SPEC, weights, PLAN, 1)
    second = store.add_model_version(SPEC, weights, PLAN, 2)
    spec = RecommenderSpec(items=3, factors=2)
    other = store.add_model_version(spec, spec.initial_weights(curriculum, 0), PLAN, 2)
    for version in (first, second, first):
        store.activate("dkt", version.version)
        found = store.active_model("dkt")
        assert found is not None
        assert found.version == version.version
    assert store.active_model("recommender") is None
    store.activate("recommender", other.version)
    assert store.counts().model_versions == 3


def test_what_one_process_activates_another_serves(open_store: OpenStore, weights: Weights) -> None:
    training, serving = open_store(), open_store()
    assert serving.active_model("dkt") is None
    for round_number in (1, 2):
        version = training.add_model_version(SPEC, weights, PLAN, round_number)
        training.activate("dkt", version.version)
        found = serving.active_model("dkt")
        assert found is not None
        assert found.round == round_number
        assert serving.active_model("dkt") is found


def test_the_same_release_again_is_the_same_version(store: Store, weights: Weights) -> None:
    first = store.add_model_version(SPEC, weights, PLAN, 1)
    again = store.add_model_version(SPEC, dict(reversed(weights.items())), PLAN, 1)
    assert (again.version, store.counts().model_versions) == (first.version, 1)


def test_a_round_releases_one_set_of_weights(store: Store, weights: Weights) -> None:
    store.add_model_version(SPEC, weights, PLAN, 1)
    changed = {**weights, "output": weights["output"] + 1}
    with pytest.raises(MessageError, match="has released other weights of the kind 'dkt'"):
        store.add_model_version(SPEC, changed, PLAN, 1)


def test_weights_that_do_not_fit_the_spec_are_refused(store: Store, weights: Weights) -> None:
    with pytest.raises(MessageError, match="output must be float32"):
        store.add_model_version(SPEC, {**weights, "output": np.zeros((1, 1), "f4")}, PLAN, 1)


def test_activating_an_unknown_version_keeps_the_active_one(store: Store, weights: Weights) -> None:
    version = store.add_model_version(SPEC, weights, PLAN, 1).version
    store.activate("dkt", version)
    with pytest.raises(DataError, match="no dkt model with the version nonsense"):
        store.activate("dkt", "nonsense")
    with pytest.raises(DataError, match="no recommender model"):
        store.activate("recommender", version)
    assert store.active_model("dkt") is not None


def test_altered_weights_are_not_served(
    tmp_path: Path, curriculum: Curriculum, keys: Pseudonymizer, weights: Weights
) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    with Store.open(url, curriculum, keys) as store:
        store.activate("dkt", store.add_model_version(SPEC, weights, PLAN, 1).version)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE model_versions SET round = 2"))
        engine.dispose()
        with pytest.raises(DataError, match="was altered"):
            store.active_model("dkt")


def test_a_learners_state_is_replaced_not_piled_up(store: Store, weights: Weights) -> None:
    version = store.add_model_version(SPEC, weights, PLAN, 1).version
    store.append("ada", Interaction("ada", "i0", True, 1.0, "k"))
    learner = store.pseudonym("ada")
    assert store.load_state(learner, version) is None
    store.save_state(learner, version, 1, b"one")
    store.save_state(learner, version, 2, b"two")
    assert store.load_state(learner, version) == (2, b"two")


def test_each_version_remembers_on_its_own(store: Store, weights: Weights) -> None:
    versions = [store.add_model_version(SPEC, weights, PLAN, n).version for n in (1, 2)]
    store.append("ada", Interaction("ada", "i0", True, 1.0, "k"))
    learner = store.pseudonym("ada")
    for number, version in enumerate(versions):
        store.save_state(learner, version, number, bytes([number]))
    assert [store.load_state(learner, one) for one in versions] == [(0, b"\0"), (1, b"\1")]


def test_nothing_is_remembered_of_the_erased(store: Store, weights: Weights, ask: Ask) -> None:
    version = store.add_model_version(SPEC, weights, PLAN, 1).version
    store.append("ada", Interaction("ada", "i0", True, 1.0, "k"))
    learner = store.pseudonym("ada")
    store.save_state(learner, version, 1, b"state")
    ask(store, "ada", erased=True)
    assert store.load_state(learner, version) is None
    store.save_state(learner, version, 2, b"late")
    assert store.load_state(learner, version) is None


def test_only_what_serves_and_what_would_take_its_place_remember_learners(
    store: Store,
    curriculum: Curriculum,
    weights: Weights,
    answers: Callable[..., list[Interaction]],
) -> None:
    store.import_interactions(answers("ada"))
    ada = store.pseudonym("ada")
    spec = RecommenderSpec(items=3, factors=2)
    other = store.add_model_version(spec, spec.initial_weights(curriculum, 0), PLAN, 1).version
    store.save_state(ada, other, 3, b"other")
    versions = [store.add_model_version(SPEC, weights, PLAN, n).version for n in range(1, 5)]
    for version in (*versions, versions[1]):
        store.activate("dkt", version)
    store.block(versions[3], "damaged")
    for version in versions:
        store.save_state(ada, version, 3, b"state")
    store.prune_states("dkt")
    remembering = [one for one in versions if store.load_state(ada, one) is not None]
    assert remembering == versions[1:3], "the third served last before the second came back"
    assert store.load_state(ada, other) is not None, "of another kind"


def test_it_is_told_which_version_serves(
    curriculum: Curriculum, keys: Pseudonymizer, url: str, weights: Weights
) -> None:
    told: list[tuple[str, str, str]] = []
    with Store.open(url, curriculum, keys, news=lambda *news: told.append(news)) as store:
        first, second = (store.add_model_version(SPEC, weights, PLAN, n).version for n in (1, 2))
        store.activate("dkt", first)
        store.activate("dkt", second)
        for _ in range(2):
            store.fall_back("dkt", second, "damaged")
        store.fall_back("dkt", first, "damaged")
    serving = [("serving", "dkt", one) for one in (first, second, first)]
    withdrawn = [("withdrawn", "dkt", one) for one in (second, first)]
    assert told == [*serving[:2], withdrawn[0], serving[2], withdrawn[1]]

"""Plans: calibrated to the budget, checked against it before any data is read."""

from collections.abc import Callable
from typing import Any

import pytest

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import BudgetExceededError, ConfigError
from cloister_shared.privacy.accounting import cost
from cloister_simulations.config import SimulationConfig
from cloister_simulations.plans import check_budget, make_plan, make_spec
from cloister_simulations.synthetic import SyntheticSchools, synthetic_curriculum

MakeConfig = Callable[..., SimulationConfig]
SIZES = {"north": 50, "south": 70, "west": 100}


@pytest.fixture(scope="module")
def curriculum() -> Curriculum:
    return synthetic_curriculum(SyntheticSchools(skills=3, items_per_skill=3))


@pytest.fixture
def two_models(make_config: MakeConfig) -> SimulationConfig:
    dkt = make_config().model_dump(mode="json")["models"][0]
    recommender: dict[str, Any] = {**dkt, "kind": "recommender", "spec": {}, "budget_share": 0.25}
    recommender["private"] = {**dkt["private"], "rounds": 2}
    return make_config(models=[{**dkt, "budget_share": 0.75}, recommender])


def test_the_rounds_and_one_to_spare_spend_the_budget_and_no_more(
    make_config: MakeConfig, curriculum: Curriculum
) -> None:
    config = make_config()
    budget = config.privacy.budget
    plan = make_plan(config, "run", curriculum, SIZES, private=True)
    prices = [cost(events, budget.order) or 0 for events in plan.events_by_round()]
    assert 0.99 * budget.limit < sum(prices) + prices[-1] <= budget.limit
    check_budget(config)


def test_each_model_spends_its_own_share(
    two_models: SimulationConfig, curriculum: Curriculum
) -> None:
    budget = two_models.privacy.budget
    plan = make_plan(two_models, "run", curriculum, SIZES, private=True)
    assert [model.rounds for model in plan.models] == [6, 2]
    for model, share in zip(plan.models, (0.75, 0.25), strict=True):
        price = cost([model.event.event], budget.order) or 0
        assert 0.99 * share <= (model.rounds + 1) * price / budget.limit <= share
    check_budget(two_models)


def test_a_given_noise_multiplier_is_kept_and_the_arms_without_noise_have_none(
    make_config: MakeConfig, curriculum: Curriculum
) -> None:
    config = make_config({"noise_multiplier": 20.0})
    private = make_plan(config, "run", curriculum, SIZES, private=True)
    plain = make_plan(config, "run", curriculum, SIZES, private=False)
    assert private.models[0].mechanism.noise_multiplier == 20.0
    assert (private.is_private, plain.is_private) == (True, False)
    assert private.models[0].mechanism.sampling_rate == 0.5
    assert plain.models[0].mechanism.sampling_rate == 1.0


@pytest.mark.parametrize("rounds", [100, 1000])
def test_a_plan_beyond_the_budget_is_refused_with_the_rounds_that_would_fit(
    make_config: MakeConfig, rounds: int
) -> None:
    def settings(count: int) -> SimulationConfig:
        return make_config({"noise_multiplier": 2.0, "rounds": count})

    with pytest.raises(BudgetExceededError, match="rounds would fit") as caught:
        check_budget(settings(rounds))
    fit = int(str(caught.value).split("at most ")[1].split()[0])
    assert 0 < fit < rounds
    check_budget(settings(fit))
    with pytest.raises(BudgetExceededError, match=f"at most {fit} rounds"):
        check_budget(settings(fit + 1))
    assert caught.value.difference == caught.value.requested - caught.value.remaining > 0


def test_rounds_that_fit_are_counted_over_all_models(two_models: SimulationConfig) -> None:
    document = two_models.model_dump(mode="json")
    for model in document["models"]:
        model["private"]["noise_multiplier"] = 0.9
    with pytest.raises(BudgetExceededError, match=r"plan's 6 rounds .* at most [1-5] rounds"):
        check_budget(SimulationConfig.model_validate(document))


def test_arms_without_noise_need_no_budget(make_config: MakeConfig) -> None:
    arms = ["federated_non_private", "local_only", "pooled"]
    check_budget(make_config({"noise_multiplier": 0.01}, arms=arms))
    with pytest.raises(BudgetExceededError):
        check_budget(make_config({"noise_multiplier": 0.01}, arms=["pooled_private"]))


@pytest.mark.parametrize(("share", "quorum"), [(0.01, 1), (0.5, 2), (0.67, 3), (1.0, 3)])
def test_the_quorum_is_a_share_of_the_institutions(
    make_config: MakeConfig, curriculum: Curriculum, share: float, quorum: int
) -> None:
    config = make_config(quorum_share=share)
    assert make_plan(config, "run", curriculum, SIZES, private=True).quorum == quorum


def test_a_spec_gets_the_curriculums_sizes_and_only_options_of_its_kind(
    make_config: MakeConfig, curriculum: Curriculum
) -> None:
    model = make_config().models[0]
    assert make_spec(model, curriculum).shapes()["output"] == (3, 5)
    wrong = model.model_copy(update={"spec": {"hidden": 0, "depth": 2}})
    with pytest.raises(ConfigError, match=r"model dkt: hidden: .*; depth: Extra inputs"):
        make_spec(wrong, curriculum)


@pytest.mark.parametrize(("compression", "schema"), [("none", 1), ("int8", 2)])
def test_messages_are_compressed_where_the_config_says_so(
    make_config: MakeConfig, curriculum: Curriculum, compression: str, schema: int
) -> None:
    plan = make_plan(make_config(compression=compression), "run", curriculum, SIZES, private=True)
    assert (plan.compression, plan.schema_version) == (compression, schema)

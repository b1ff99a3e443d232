import json
import math

import pytest
from pydantic import ValidationError

from cloister_simulations.result import Figures, Guarantee, SimulationResult, Spend


def test_a_result_comes_back_from_its_json_unchanged(result):
    assert SimulationResult.model_validate_json(result.model_dump_json()) == result


def test_a_figure_that_does_not_exist_is_null_in_the_json():
    figures = Figures(all={"auc": math.nan, "accuracy": 0.5})
    document = figures.model_dump_json()
    assert json.loads(document)["all"] == {"auc": None, "accuracy": 0.5}
    assert Figures.model_validate_json(document) == figures


def test_an_infinite_epsilon_is_null():
    assert Spend(epsilon_pld=math.inf, epsilon_rdp=math.inf).epsilon_rdp is None


def test_a_guarantee_without_its_numbers_is_refused():
    with pytest.raises(ValidationError, match="needs an epsilon_limit and a delta"):
        Guarantee(kind="learner_level_dp", reason="because", epsilon_limit=4.0)


@pytest.mark.parametrize("spent", [4.1, math.inf])
def test_a_guarantee_that_a_node_did_not_keep_is_refused(make_result, result, spent):
    spend = Spend(epsilon_pld=1.0, epsilon_rdp=spent)
    node = result.nodes[0].model_copy(update={"spend": (spend,)})
    with pytest.raises(ValidationError, match="more was spent at Ash school"):
        make_result(nodes=(node,))
    no_guarantee = Guarantee(kind="none", reason="because")
    assert make_result(nodes=(node,), guarantee=no_guarantee).nodes == (node,)


def test_unknown_fields_are_refused(result):
    with pytest.raises(ValidationError, match="surprise"):
        SimulationResult.model_validate({**result.model_dump(), "surprise": 1})


def test_model_kinds_are_those_of_arms_and_baselines(make_result):
    result = make_result(baselines={"third": {}})
    assert result.model_kinds == ["dkt", "recommender", "third"]

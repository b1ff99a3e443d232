"""A plan says one thing, and equal plans are equal byte for byte."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import MAX_LEARNERS, Plan
from cloister_shared.privacy import NonPrivate, SampledGaussian

DKT = {
    "spec": {"kind": "dkt", "skills": 3, "hidden": 4},
    "rounds": 3,
    "mechanism": {"noise_multiplier": 1.0, "clip_norm": 0.5, "sampling_rate": 0.1},
    "local": {"steps": 2},
}
RECOMMENDER = {
    "spec": {"kind": "recommender", "items": 3, "factors": 2},
    "rounds": 1,
    "mechanism": {"noise_multiplier": 2.0, "clip_norm": 0.5, "sampling_rate": 0.2},
}
DOCUMENT: dict[str, Any] = {
    "run": "autumn-1",
    "curriculum": "c" * 64,
    "models": [DKT, RECOMMENDER],
    "declared_sizes": {"north": 100, "south": 200},
    "quorum": 2,
}


def with_model(**fields: Any) -> dict[str, Any]:
    return {**DOCUMENT, "models": [{**DKT, **fields}]}


@pytest.mark.parametrize(
    "document",
    [
        {**DOCUMENT, "quorum": 3},
        {**DOCUMENT, "quorum": 0},
        {**DOCUMENT, "models": [DKT, DKT]},
        {**DOCUMENT, "models": []},
        {**DOCUMENT, "declared_sizes": {}},
        {**DOCUMENT, "declared_sizes": {"north": 0}, "quorum": 1},
        {**DOCUMENT, "declared_sizes": {"north": 10.5}, "quorum": 1},
        {**DOCUMENT, "run": "a/b"},
        {**DOCUMENT, "run": ""},
        {**DOCUMENT, "run": "x" * 65},
        {**DOCUMENT, "run": "a\n"},
        {**DOCUMENT, "deadline_s": 0},
        {**DOCUMENT, "deadline_s": math.inf},
        {**DOCUMENT, "trust": "coordinator"},
        {**DOCUMENT, "schema_version": 3},
        {**DOCUMENT, "schema_version": 1, "compression": "int8"},
        {**DOCUMENT, "compression": "int4"},
        {**DOCUMENT, "declared_sizes": {"north": MAX_LEARNERS, "south": 1}},
        {**DOCUMENT, "dependencies": ["evil"]},
        {**DOCUMENT, "metrics": {"every_rounds": 2}},
        {**DOCUMENT, "metrics": {"every_rounds": 0, "noise_multiplier": 5.0}},
        {**DOCUMENT, "metrics": {"every_rounds": 2, "noise_multiplier": 0}},
        {**DOCUMENT, "metrics": {"every_rounds": 2, "noise_multiplier": 5.0, "bins": 1}},
        {**DOCUMENT, "metrics": {"every_rounds": 2, "noise_multiplier": 5.0, "groups": ["A", "A"]}},
        {**DOCUMENT, "metrics": {"every_rounds": 2, "noise_multiplier": 5.0, "groups": ["other"]}},
        {**DOCUMENT, "metrics": {"every_rounds": 2, "noise_multiplier": 5.0, "groups": ["a b"]}},
        with_model(rounds=0),
        with_model(local={"steps": 0}),
        with_model(local={"learning_rate": 0}),
        with_model(local={"learning_rate": -0.1}),
        with_model(local={"learning_rate": math.nan}),
        with_model(local={"optimizer": "rmsprop"}),
        with_model(local={"window": 1}),
        with_model(local={"max_windows": 0}),
        with_model(server={"learning_rate": 0}),
        with_model(server={"learning_rate": math.inf}),
        with_model(server={"beta1": 1}),
        with_model(server={"stabilizer": 0}),
        with_model(server={"decay": "cosine"}),
        with_model(spec={"kind": "dkt", "skills": 0}),
        with_model(spec={"kind": "transformer"}),
        with_model(spec={"skills": 3}),
        with_model(spec="dkt"),
        with_model(spec={"kind": "dkt", "skills": 3, "code": "import os"}),
    ],
)
def test_a_plan_that_means_nothing_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(document)


def test_a_plan_survives_json_with_its_digest() -> None:
    plan = Plan.model_validate(DOCUMENT)
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.digest == plan.digest
    assert isinstance(again.models[0].spec, DktSpec)


def test_equal_plans_are_equal_bytes_in_whatever_order_they_list_their_nodes() -> None:
    swapped = {**DOCUMENT, "declared_sizes": {"south": 200, "north": 100}}
    one, other = Plan.model_validate(DOCUMENT), Plan.model_validate(swapped)
    assert one.digest == other.digest
    assert one.model_dump_json() == other.model_dump_json()


FROZEN = Path(__file__).parent / "frozen" / "plan_schema_1.json"
"""A plan as the release before schema 2 wrote it, never to be changed, and its digest there."""
FROZEN_DIGEST = "01bb600f7bd1169823f0e7fc7da0b2c9d9991c18b022bc2bec16679af9d33d2a"


def test_a_plan_of_the_release_before_keeps_its_bytes_and_its_digest() -> None:
    """Nodes and coordinators of two adjacent releases must mean the same plan."""
    text = FROZEN.read_text().strip()
    plan = Plan.model_validate_json(text)
    assert plan.digest == FROZEN_DIGEST
    assert plan.model_dump_json() == text
    assert plan.compression == "none"


def test_a_plan_has_the_lowest_schema_that_says_all_it_holds() -> None:
    old, new = (Plan.model_validate({**DOCUMENT, **more}) for more in ({}, {"compression": "int8"}))
    assert (old.schema_version, new.schema_version) == (1, 2)
    assert "compression" not in old.model_dump_json()
    again = Plan.model_validate_json(new.model_dump_json())
    assert (again, again.digest) == (new, new.digest)


def test_every_setting_is_in_the_digest() -> None:
    before = Plan.model_validate(DOCUMENT)
    digests = {before.digest}
    changes: list[dict[str, Any]] = [
        {"run": "autumn-2"},
        {"curriculum": "d" * 64},
        {"quorum": 1},
        {"deadline_s": 5},
        {"metrics": {"every_rounds": 2, "noise_multiplier": 5.0}},
        {"metrics": {"every_rounds": 2, "noise_multiplier": 5.0, "bins": 10}},
        {"declared_sizes": {"north": 100, "south": 250}},
        {"compression": "int8"},
        {"models": [RECOMMENDER, DKT]},
        {"models": [{**DKT, "rounds": 4}, RECOMMENDER]},
        {"models": [{**DKT, "local": {"steps": 2, "window": 50}}, RECOMMENDER]},
        {"models": [{**DKT, "server": {"decay": "linear"}}, RECOMMENDER]},
    ]
    for change in changes:
        digests.add(Plan.model_validate({**DOCUMENT, **change}).digest)
    assert len(digests) == len(changes) + 1


def test_a_model_trains_in_its_own_rounds_only() -> None:
    plan = Plan.model_validate(DOCUMENT)
    assert plan.rounds == 3
    kinds = [[model.spec.kind for model in plan.active(number)] for number in (1, 2, 3, 4)]
    assert kinds == [["dkt", "recommender"], ["dkt"], ["dkt"], []]


def test_a_round_is_charged_for_all_models_it_trains() -> None:
    plan = Plan.model_validate(DOCUMENT)
    dkt = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.1, steps=2)
    recommender = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.2, steps=1)
    assert plan.events_by_round() == [[dkt, recommender], [dkt], [dkt]]
    assert [one.model for one in plan.charge_events(1)] == ["dkt", "recommender"]
    assert plan.is_private


def test_one_model_without_noise_makes_the_plan_non_private() -> None:
    plain = {**RECOMMENDER, "mechanism": {**RECOMMENDER["mechanism"], "noise_multiplier": 0}}
    plan = Plan.model_validate({**DOCUMENT, "models": [DKT, plain]})
    assert not plan.is_private
    assert NonPrivate() in plan.events_by_round()[0]


METRICS = {"every_rounds": 2, "noise_multiplier": 5.0}


def test_metrics_are_due_every_few_rounds_and_after_the_last_round_of_each_model() -> None:
    plan = Plan.model_validate({**DOCUMENT, "metrics": METRICS})
    due = [[model.spec.kind for model in plan.measured(number)] for number in range(5)]
    assert due == [[], ["recommender"], ["dkt"], ["dkt"], []]
    assert not any(Plan.model_validate(DOCUMENT).measured(number) for number in range(5))


def test_metrics_are_charged_to_the_evaluation_role_alone() -> None:
    plan, without = (
        Plan.model_validate({**DOCUMENT, "metrics": METRICS}),
        Plan.model_validate(DOCUMENT),
    )
    gaussian = SampledGaussian(noise_multiplier=5.0, sampling_rate=1, steps=1)
    assert plan.events_by_round("evaluation") == [[gaussian]] * 3
    assert plan.events_by_round() == without.events_by_round()
    assert without.events_by_round("evaluation") == []
    assert [one.model for one in plan.metric_events(1)] == ["recommender/metrics"]


def test_json_that_holds_nan_is_refused() -> None:
    text = json.dumps(with_model(local={"learning_rate": math.nan}))
    assert "NaN" in text
    with pytest.raises(ValidationError):
        Plan.model_validate_json(text)

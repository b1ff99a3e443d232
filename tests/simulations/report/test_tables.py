import pytest
from pydantic import ValidationError

from cloister_shared.privacy.figures import ABOVE_ALL, Breakdown, PrivateFigure
from cloister_simulations.report import comparison, tables, wording
from cloister_simulations.report.promise import promise
from cloister_simulations.result import Arm, Figures, NodeResult, RoundResult


def arm(name: str, private: bool = False, **metrics: float | None) -> Arm:
    return Arm(name=name, private=private, final={"dkt": Figures(all=metrics)}, seconds=1)


def column(table: tables.Table, name: str) -> dict[str, str]:
    return {row[0]: row[table.head.index(name)] for row in table.rows}


def test_every_arm_and_baseline_is_compared_with_pooled_on_the_main_metric(make_result):
    arms = (arm("federated", auc=0.70), arm("pooled", auc=0.72), arm("broken", auc=None))
    baselines = {"dkt": {"best_lr": Figures(all={"auc": 0.73})}}
    table = tables.summary_table(make_result(arms=arms, baselines=baselines), "dkt")
    assert column(table, "AUC − pooled") == {
        "federated": "−0.0200",
        "pooled": "–",
        "broken": "–",
        "best lr (baseline)": "+0.0100",
    }


def test_without_a_pooled_arm_there_are_no_differences(make_result):
    table = tables.summary_table(make_result(arms=(arm("federated", auc=0.7),)), "dkt")
    assert set(column(table, "AUC − pooled").values()) == {"–"}


@pytest.mark.parametrize(
    ("kind", "private", "expected"),
    [
        ("learner_level_dp", True, "learner-level DP"),
        ("none", True, "noise only"),
        ("learner_level_dp", False, "none"),
    ],
)
def test_only_private_arms_of_a_run_with_a_guarantee_are_called_private(
    make_result, kind, private, expected
):
    guarantee = {"kind": kind, "reason": "because", "epsilon_limit": 4.0, "delta": 1e-6}
    result = make_result(arms=(arm("federated", private, auc=0.7),), guarantee=guarantee)
    assert column(tables.summary_table(result, "dkt"), "privacy")["federated"] == expected


def test_many_rounds_are_thinned_out_from_the_first_to_the_last():
    shown = tables.thinned(range(1, 301))
    assert len(shown) == tables.MOST_ROUNDS
    assert (shown[0], shown[-1]) == (1, 300)


def test_rounds_that_measured_nothing_are_left_out(make_result):
    rounds = tuple(
        RoundResult(round=n, seconds=1, metrics={"dkt": {"auc": 0.6}} if n % 2 else {})
        for n in range(1, 6)
    )
    one = arm("federated", auc=0.6).model_copy(update={"rounds": rounds})
    table = tables.rounds_table(make_result(arms=(one,)), "dkt")
    assert [row[0] for row in table.rows] == ["1", "3", "5"]


def test_private_figures_stand_beside_the_exact_ones_of_their_round(result):
    table = tables.private_metrics_table(result, "dkt")
    assert table.head[-1] == "exact (simulation only)"
    exact = result.arms[0].rounds[-1].metrics["dkt"]["auc"]
    assert table.rows[1] == ("federated", "60", "AUC", "0.6743", "0.0345", f"{exact:.4f}")
    assert table.rows[0][3:5] == (wording.MISSING, wording.MISSING), "the noise dominated"
    last = tables.private_metrics_table(result, "recommender", most=1)
    assert {row[1] for row in last.rows} == {"60"}


def test_a_groups_private_figures_stand_beside_exact_ones_and_so_do_differences(make_result):
    private = PrivateFigure(value=0.6, noise_deviation=0.05)
    groups = {"A": {"auc": private, "auc" + ABOVE_ALL: private}, "other": {"auc": None}}
    bins = (None, PrivateFigure(value=0.7, noise_deviation=0.01))
    rounds = [
        one.model_copy(update={"private_breakdowns": {"dkt": Breakdown(groups=groups, bins=bins)}})
        for one in [RoundResult(round=1, seconds=1)]
    ]
    final = {"dkt": Figures(all={"auc": 0.65}, by_group={"A": {"auc": 0.625}})}
    one = arm("federated", True, auc=0.65).model_copy(update={"rounds": rounds, "final": final})
    result = make_result(arms=(one,))
    assert tables.private_groups_table(result, "dkt").rows == (
        ("federated", "A", "AUC", "0.6000", "0.0500", "+0.6000", "0.0500", "0.6250", "−0.0250"),
        ("federated", "other", "AUC", *[wording.MISSING] * 6),
    )
    assert tables.calibration_table(result, "dkt").rows == (
        ("federated", "0.00 to 0.50", wording.MISSING, wording.MISSING),
        ("federated", "0.50 to 1.00", "0.7000", "0.0100"),
    )


def test_of_many_institutions_the_largest_are_shown_and_the_caption_says_so(make_result):
    nodes = tuple(
        NodeResult(name=f"n{size}", declared_size=size, learners_train=1, learners_evaluation=0)
        for size in range(1, 1001)
    )
    result = make_result(nodes=nodes, guarantee={"kind": "none", "reason": "no noise"})
    assert comparison.shown_institutions(result) == [f"n{size}" for size in range(981, 1001)]
    assert "the 20 largest of 1,000" in tables.institutions_table(result, "dkt").caption


def test_the_best_baseline_is_the_one_with_the_highest_main_metric(make_result):
    figures = {"a": None, "b": 0.6, "c": 0.5}
    baselines = {"dkt": {name: Figures(all={"auc": auc}) for name, auc in figures.items()}}
    best = comparison.best_baseline(make_result(baselines=baselines), "dkt")
    assert best is not None
    assert best.name == "b"


def test_an_unknown_model_kind_is_measured_by_its_first_metric(make_result):
    baselines = {"third": {"guess": Figures(all={"rmse": 1.0, "bias": 0.1})}}
    assert comparison.main_metric(make_result(baselines=baselines), "third") == "rmse"


@pytest.mark.parametrize(
    ("value", "expected"), [(3.701, "3.71"), (3.7, "3.70"), (0.0, "0.00"), (None, "∞")]
)
def test_a_spent_epsilon_is_rounded_up(value, expected):
    assert wording.epsilon(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(7.06, "7.1 s"), (59.96, "1 min 00 s"), (125.0, "2 min 05 s")]
)
def test_durations_are_in_seconds_and_minutes(value, expected):
    assert wording.seconds(value) == expected


def test_rejected_contributions_are_listed_with_their_reason(result):
    rows = tables.rejections_table(result).rows
    assert ("federated", "17", "Dogwood school", "not_finite") in rows


def test_what_an_audit_proved_stands_beside_what_is_claimed(make_result, audit_report):
    audited = arm("federated", private=True, auc=0.7).model_copy(update={"audit": (audit_report,)})
    table = tables.audit_table(make_result(arms=(audited, arm("pooled", auc=0.72))))
    ((name, model, _, claim, found, right),) = table.rows
    assert (name, model) == ("federated", "Knowledge tracer")
    assert (claim, found, right) == ("4.89", "2.91", "1897 of 2000")


UNCHARGED = NodeResult(name="a", declared_size=50, learners_train=40, learners_evaluation=8)


@pytest.mark.parametrize("nodes", [(), (UNCHARGED,)], ids=["no nodes", "no spend"])
def test_no_guarantee_is_claimed_without_a_known_spend(make_result, nodes):
    with pytest.raises(ValidationError, match="no node's spend is known"):
        make_result(nodes=nodes)


def test_a_second_private_arm_is_said_to_spend_a_budget_of_its_own(make_result):
    arms = (arm("federated", True, auc=0.7), arm("pooled_private", True, auc=0.7))
    result = make_result(arms=arms)
    rows = tables.summary_table(result, "dkt").rows
    assert [row[1] for row in rows[:2]] == ["learner-level DP", "DP, a budget of its own"]
    assert "pooled private spent a budget of their own each" in said(result)


def test_a_private_baseline_is_said_to_spend_a_budget_of_its_own(make_result):
    result = make_result(private_baselines=("best_lr",))
    privacy = {row[0]: row[1] for row in tables.summary_table(result, "dkt").rows}
    assert privacy["best lr (baseline)"] == "DP, a budget of its own"
    assert privacy["majority (baseline)"] == "none"
    assert "best lr spent a budget of their own each" in said(result)


def said(result):
    return " ".join(promise(result).sentences)

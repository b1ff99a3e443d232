from io import StringIO

import pytest
from rich.console import Console

from cloister_simulations.report import print_summary


def printed(result, width: int = 140) -> str:
    console = Console(file=StringIO(), width=width)
    print_summary(result, console)
    return console.file.getvalue()


def test_the_summary_tells_guarantee_figures_spend_and_cost(result):
    text = printed(result)
    for expected in (
        "Learner-level differential privacy: ε ≤ 4 at δ = 1e-06",
        "federated non private",
        "best lr (baseline)",
        "−0.0590",
        "3.77",
        "14.7 MB",
        "Simulation only: exact metrics",
    ):
        assert expected in text


def test_private_figures_are_told_apart_from_exact_ones(result):
    text = printed(result)
    assert "Knowledge tracer: private metrics" in text
    assert "exact (simulation only)" in text
    assert "0.0345" in text


def test_a_run_without_a_guarantee_is_announced_as_such(make_result):
    text = printed(make_result(guarantee={"kind": "none", "reason": "no noise was added"}))
    assert "No privacy guarantee" in text
    assert "No noise was added." in text


def test_names_are_not_taken_for_markup(make_result, result):
    nodes = [{**result.nodes[0].model_dump(), "name": "[bold]Ash[/]"}]
    assert "[bold]Ash[/]" in printed(make_result(nodes=nodes))


@pytest.mark.parametrize("width", [80, 200])
def test_no_word_and_no_figure_is_cut(result, width):
    text = printed(result, width)
    assert "…" not in text
    assert {"federated", "non", "private"} <= set(text.split())

import json
import re
from html.parser import HTMLParser

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.report import render_report, write_report
from cloister_simulations.result import Figures

NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class Page(HTMLParser):
    """Tags and attributes of a page, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(make_result) -> str:
    return render_report(make_result())


def test_the_page_fetches_nothing_and_runs_nothing(page):
    for namespace in NAMESPACES:
        page = page.replace(namespace, "")
    assert "://" not in page
    assert not re.search(r"url\((?!#)", page)
    names = {tag for tag, _ in Page(page).tags}
    assert not names & {"script", "link", "img", "iframe", "object"}


def test_ids_are_unique_and_every_reference_is_answered(page):
    ids = [attributes["id"] for _, attributes in Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r"(?:url\(|href=\")#([^\")]+)", page)
    assert references
    assert set(references) <= set(ids)


def test_every_plot_has_a_title_a_description_and_a_table(page):
    plots = Page(page).all("svg")
    ids = {attributes["id"] for _, attributes in Page(page).tags if "id" in attributes}
    assert len(plots) == 5
    for plot in plots:
        assert plot["role"] == "img"
        assert set((plot["aria-labelledby"] or "").split()) <= ids
    for panel in page.split('<section class="panel">')[1:]:
        assert "<table>" in panel


def test_plots_take_their_colours_from_the_style_sheet(page):
    assert "c0ff" not in page
    assert "var(--series-1)" in page
    assert "prefers-color-scheme: dark" in page


def test_the_same_result_gives_the_same_page(page, make_result):
    assert render_report(make_result()) == page


def test_a_guarantee_is_told_in_words_with_what_it_leaves_out(page):
    assert "Learner-level differential privacy: ε ≤ 4 at δ = 1e-06" in page
    assert "No learner has spent more than ε = 3.77" in page
    assert "trying settings on the same data is not included" in page
    assert "Simulation only: exact metrics" in page


def test_private_figures_are_explained_and_told_apart_from_exact_ones(page):
    assert "Private metrics" in page
    assert "exact (simulation only)" in page
    assert "Every learner weighs about alike" in page


def test_without_a_guarantee_the_page_says_so_first(make_result):
    guarantee = {"kind": "none", "reason": "noise was drawn from a key", "epsilon_limit": 4.0}
    page = render_report(make_result(guarantee=guarantee))
    assert page.index("No privacy guarantee") < page.index("Knowledge tracer")
    assert "Noise was drawn from a key." in page
    assert "Learner-level differential privacy" not in page
    assert "learner-level DP" not in page


def test_an_infinite_spend_is_tabled_but_not_drawn(make_result, result):
    spend = {"epsilon_pld": None, "epsilon_rdp": None}
    nodes = [{**node.model_dump(), "spend": [spend]} for node in result.nodes]
    guarantee = {"kind": "none", "reason": "no noise was added"}
    page = render_report(make_result(nodes=nodes, guarantee=guarantee))
    assert "No finite ε was spent" in page
    assert '<td class="number">∞</td>' in page
    assert len(Page(page).all("svg")) == 4


def test_names_are_shown_as_they_are(make_result, result):
    name = "<script>$x$ & $"
    nodes = [{**result.nodes[0].model_dump(), "name": name}]
    final = {"dkt": Figures(all={"auc": 0.7}, by_institution={name: {"auc": 0.7}})}
    arms = [{"name": "federated", "private": False, "final": final, "seconds": 1}]
    page = render_report(make_result(nodes=nodes, arms=arms, baselines={}))
    assert "<script>" not in page
    assert "&lt;script&gt;$x$ &amp; $" in page


def test_a_result_with_next_to_nothing_in_it_has_a_page(make_result):
    final = {"dkt": Figures(all={"auc": float("nan")})}
    arms = [{"name": "pooled", "private": False, "final": final, "seconds": 0}]
    guarantee = {"kind": "none", "reason": "no federated arm with noise was run"}
    for fields in ({"arms": arms}, {"arms": []}):
        page = render_report(make_result(nodes=[], baselines={}, guarantee=guarantee, **fields))
        assert "Cloister simulation" in page


def test_the_parsed_json_is_as_good_as_the_result(result, page, tmp_path):
    write_report(json.loads(result.model_dump_json()), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_a_document_that_is_no_result_is_named_as_such(result, tmp_path):
    document = {**result.model_dump(), "wall_clock_s": -1}
    with pytest.raises(DataError, match=r"not the result of a simulation: wall_clock_s"):
        write_report(document, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_long_names_of_like_beginnings_stay_apart_in_plots(make_result, result):
    names = [f"University of Somewhere, campus {number}" for number in (1, 2)]
    nodes = [{**result.nodes[0].model_dump(), "name": name} for name in names]
    page = render_report(make_result(nodes=nodes))
    assert "University …e, campus 1</text>" in page
    assert "University …e, campus 2</text>" in page


def test_an_audit_is_shown_where_there_was_one(make_result, result, audit_report):
    assert "Audit of the code" not in render_report(result)
    arms = (result.arms[0].model_copy(update={"audit": (audit_report,)}), *result.arms[1:])
    page = render_report(make_result(arms=arms))
    assert "Audit of the code" in page
    assert "empirical lower bound" in page

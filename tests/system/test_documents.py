"""The documents point at what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "docs/adr", "client", "server", "shared", "simulations")
    for path in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
TEST_FILE = re.compile(r"`((?:tests/[\w/]+/)?test_\w+\.py)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    targets = [target for target in LINK.findall(document.read_text("utf-8")) if ":" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_promise_names_the_tests_that_hold_it() -> None:
    _, _, text = (ROOT / "docs/threat-model.md").read_text("utf-8").partition("## Promises")
    promises = re.split(r"^\d+\. ", text.partition("## Not promised")[0], flags=re.MULTILINE)[1:]
    assert promises
    for promise in promises:
        assert TEST_FILE.search(promise), f"no test holds: {promise}"
        folder = ""
        for name in TEST_FILE.findall(promise):
            folder = str(Path(name).parent) if "/" in name else folder
            assert (ROOT / folder / Path(name).name).exists(), f"{folder}/{Path(name).name}"


def test_every_pitfall_and_adversary_refers_to_promises_that_are_there() -> None:
    model = (ROOT / "docs/threat-model.md").read_text("utf-8")
    promises, _, others = model.partition("## Promises")[2].partition("## Not promised")
    there = {
        letter + number
        for letter, part in (("P", promises), ("N", others))
        for number in re.findall(r"^(\d+)\. ", part, flags=re.MULTILINE)
    }
    for name in ("threat-model.md", "pitfalls.md"):
        text = (ROOT / "docs" / name).read_text("utf-8")
        named = set(re.findall(r"\b[PN]\d+\b", text))
        assert named
        assert named <= there

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
    _, _, text = (ROOT / "docs/privacy.md").read_text("utf-8").partition("## Promises")
    promises = re.split(r"^\d+\. ", text.partition("## Not promised")[0], flags=re.MULTILINE)[1:]
    assert promises
    for promise in promises:
        assert TEST_FILE.search(promise), f"no test holds: {promise}"
        folder = ""
        for name in TEST_FILE.findall(promise):
            folder = str(Path(name).parent) if "/" in name else folder
            assert (ROOT / folder / Path(name).name).exists(), f"{folder}/{Path(name).name}"

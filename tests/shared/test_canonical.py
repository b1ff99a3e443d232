"""One document, one byte string."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_shared.canonical import canonical_json, digest

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4) | st.lists(inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=3), DOCUMENTS, max_size=5))
def test_the_order_of_keys_changes_nothing(document: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(document.items()))) == canonical_json(document)


@settings(max_examples=50)
@given(DOCUMENTS)
def test_the_bytes_hold_the_whole_document(document: object) -> None:
    assert json.loads(canonical_json(document)) == document


def test_the_bytes_are_compact_sorted_utf8() -> None:
    assert canonical_json({"b": [1, "ε"], "a": None}) == '{"a":null,"b":[1,"ε"]}'.encode()


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": [number]})

"""One document, one byte string."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_shared.canonical import canonical_json, digest

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4) | st.lists(inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), DOCUMENTS), st.randoms())
def test_the_order_of_keys_changes_nothing(document: dict[str, object], random: object) -> None:
    names = list(document)
    random.shuffle(names)
    assert canonical_json({name: document[name] for name in names}) == canonical_json(document)


@given(DOCUMENTS, DOCUMENTS)
def test_other_documents_have_other_digests(one: object, other: object) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (repr(one) == repr(other)) or (
        isinstance(one, dict | list)
    )


def test_the_bytes_are_compact_sorted_utf8() -> None:
    assert canonical_json({"b": [1, "ε"], "a": None}) == '{"a":null,"b":[1,"ε"]}'.encode()


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": [number]})

"""Requests are the coordinator's own, to this node, now: else they are not taken up."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_shared.canonical import canonical_json
from cloister_shared.errors import PolicyError
from cloister_shared.requests import LATEST, SignedTerms, check_request, sign_request
from cloister_shared.signing import SigningKey

KEY = SigningKey.from_bytes(bytes(range(32)))
NODES, UNTIL = ("elm", "oak"), 1_000
TRAIN = hashlib.sha256(b"train").hexdigest()


def signed(body: bytes, key: SigningKey = KEY) -> SignedTerms:
    return sign_request(body, NODES, UNTIL, key)


def check(
    body: bytes, terms: SignedTerms, *, key: str = KEY.public, node: str = "oak", now: float = 0.0
) -> int:
    return check_request(body, terms, key, node, now)


def code_of(body: bytes, terms: SignedTerms, **about: object) -> str:
    with pytest.raises(PolicyError) as caught:
        check(body, terms, **about)
    return caught.value.code


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_request_with_one_bit_changed_is_refused(body: bytes, data: st.DataObject) -> None:
    assert check(body, signed(body)) == UNTIL
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(bytes(changed), signed(body)) == "signature"


@given(st.data())
def test_terms_with_one_bit_changed_are_refused(data: st.DataObject) -> None:
    terms = signed(b"train")
    changed = bytearray(terms.document)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(b"train", SignedTerms(bytes(changed), terms.signature)) == "signature"


def test_a_request_of_another_coordinator_is_refused() -> None:
    assert code_of(b"train", signed(b"train", SigningKey.generate())) == "signature"
    assert code_of(b"train", signed(b"train"), key=SigningKey.generate().public) == "signature"


@pytest.mark.parametrize("signature", [b"", b"00" * 64, b"\xff" * 128, b"x" * 128])
def test_an_unsigned_request_is_refused(signature: bytes) -> None:
    terms = signed(b"train")
    assert code_of(b"train", SignedTerms(terms.document, signature)) == "signature"
    assert code_of(b"train", SignedTerms(b"", signature)) == "signature"


@pytest.mark.parametrize(
    "document",
    [
        b"train",
        canonical_json({"type": "model", "manifest": {}}),
        canonical_json({"type": "request", "sha256": TRAIN, "nodes": ["oak"], "until": -1}),
        canonical_json({"type": "request", "nodes": ["oak"], "until": UNTIL}),
        canonical_json({"type": "request", "sha256": TRAIN, "nodes": ["oak"], "until": LATEST + 1}),
    ],
)
def test_what_the_coordinator_signed_of_something_else_is_none_of_a_request(
    document: bytes,
) -> None:
    terms = SignedTerms(document, KEY.sign(document).encode())
    assert code_of(b"train", terms) == "signature"


def test_a_request_to_other_nodes_is_refused() -> None:
    assert [check(b"train", signed(b"train"), node=node) for node in NODES] == [UNTIL, UNTIL]
    assert code_of(b"train", signed(b"train"), node="ash") == "recipient"
    assert code_of(b"train", signed(b"train"), node="") == "recipient"


def test_a_request_whose_time_is_over_is_refused() -> None:
    assert check(b"train", signed(b"train"), now=UNTIL) == UNTIL
    assert code_of(b"train", signed(b"train"), now=UNTIL + 0.5) == "expired"


def test_terms_do_not_depend_on_the_order_of_nodes() -> None:
    again = sign_request(b"train", tuple(reversed(NODES)), UNTIL, KEY)
    assert again == signed(b"train")

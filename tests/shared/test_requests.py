"""Requests are the coordinator's own: one bit, another key or no signature, and they are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_shared.errors import PolicyError
from cloister_shared.requests import check_request, sign_request
from cloister_shared.signing import SigningKey

KEY = SigningKey.from_bytes(bytes(range(32)))


def refused(body: bytes, signature: bytes, coordinator: str = KEY.public) -> None:
    with pytest.raises(PolicyError) as caught:
        check_request(body, signature, coordinator)
    assert caught.value.code == "signature"


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_request_with_one_bit_changed_is_refused(body: bytes, data: st.DataObject) -> None:
    signature = sign_request(body, KEY)
    check_request(body, signature, KEY.public)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(bytes(changed), signature)


def test_a_request_of_another_coordinator_is_refused() -> None:
    refused(b"train", sign_request(b"train", SigningKey.generate()))
    refused(b"train", sign_request(b"train", KEY), SigningKey.generate().public)


@pytest.mark.parametrize("signature", [b"", b"00" * 64, b"\xff" * 128, b"x" * 128])
def test_an_unsigned_request_is_refused(signature: bytes) -> None:
    refused(b"train", signature)


def test_a_signature_over_another_kind_of_document_is_none_of_a_request() -> None:
    refused(b"train", KEY.sign(b"train").encode())


def test_asked_again_a_request_bears_the_same_signature() -> None:
    assert sign_request(b"train", KEY) == sign_request(b"train", KEY)

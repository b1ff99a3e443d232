"""Signatures: those of the standard, and none for anything that was changed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_shared.signing import SigningKey, is_signed

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e397"
        "01cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f361"
        "3d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76"
        "0984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
"""Section 7.1, tests 1 to 3: secret, public, content, signature."""
KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.mark.parametrize(("secret", "public", "content", "signature"), RFC_8032)
def test_keys_and_signatures_are_those_of_the_standard(
    secret: str, public: str, content: str, signature: str
) -> None:
    key = SigningKey.from_bytes(bytes.fromhex(secret))
    assert key.public == public
    assert key.sign(bytes.fromhex(content)) == signature
    assert is_signed(bytes.fromhex(content), signature, public)


def test_a_key_comes_back_from_its_bytes() -> None:
    key = SigningKey.generate()
    again = SigningKey.from_bytes(key.to_bytes())
    assert again.public == key.public
    assert again.sign(b"x") == key.sign(b"x")
    assert SigningKey.generate().public != key.public


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b"x" * 33])
def test_a_secret_has_32_bytes(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_bytes(secret)


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=40), st.data())
def test_altered_content_is_not_signed(content: bytes, data: st.DataObject) -> None:
    signature = KEY.sign(content)
    altered = bytearray(content)
    altered[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert is_signed(content, signature, KEY.public)
    assert not is_signed(bytes(altered), signature, KEY.public)


@settings(max_examples=50)
@given(st.integers(0, 63), st.integers(1, 255))
def test_an_altered_signature_is_none(position: int, flip: int) -> None:
    signature = bytearray.fromhex(KEY.sign(b"content"))
    signature[position] ^= flip
    assert not is_signed(b"content", signature.hex(), KEY.public)


def test_nobody_signs_for_another() -> None:
    other = SigningKey.generate()
    assert not is_signed(b"content", KEY.sign(b"content"), other.public)
    assert not is_signed(b"content", other.sign(b"content"), KEY.public)


def test_a_signature_has_one_spelling() -> None:
    signature = KEY.sign(b"content")
    assert not is_signed(b"content", signature.upper(), KEY.public)
    assert not is_signed(b"content", signature, KEY.public.upper())


@pytest.mark.parametrize("word", ["", "no hex", "ab", "ß" * 64])
def test_what_is_malformed_is_not_signed(word: str) -> None:
    assert not is_signed(b"content", word, KEY.public)
    assert not is_signed(b"content", KEY.sign(b"content"), word)

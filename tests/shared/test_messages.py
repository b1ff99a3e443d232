"""Messages: the same bytes for the same content, one length, and no way in for anything else."""

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloister_shared.errors import MessageError
from cloister_shared.messages import (
    HEADER_BLOCK,
    Contribution,
    Receipt,
    Refusal,
    Release,
    Reply,
    TrainRequest,
    is_authentic,
    join,
    pack,
    pack_receipts,
    pack_signed,
    receipt_of,
    split,
    unpack,
)
from cloister_shared.plan import Plan
from cloister_shared.privacy.ledger_format import HeadReceipt
from cloister_shared.signing import SigningKey

PLAN = Plan.model_validate(
    {
        "run": "r",
        "curriculum": "c" * 64,
        "models": [
            {
                "spec": {"kind": "dkt", "skills": 2, "hidden": 2},
                "rounds": 1000,
                "mechanism": {"noise_multiplier": 1, "clip_norm": 1, "sampling_rate": 0.1},
            }
        ],
        "declared_sizes": {"north": 100},
    }
)
OUTPUT, INPUT = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)
WEIGHTS = {"dkt/output": OUTPUT, "dkt/input": INPUT}
CONTRIBUTION = Contribution(plan=PLAN.digest, round=7, node="north")
KEY, OTHER_KEY = (SigningKey.from_bytes(bytes([one] * 32)) for one in (1, 2))
VALID = pack_signed(CONTRIBUTION, WEIGHTS, KEY)
ALL = (TrainRequest, Contribution, Refusal, Release, Receipt)


def safetensors_document(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "header",
    [
        CONTRIBUTION,
        TrainRequest(plan=PLAN, round=1),
        Release(plan=PLAN, round=3),
        Refusal(plan=PLAN.digest, round=2, node="north", code="budget"),
        Receipt(plan=PLAN.digest, round=2, node="nörth"),
    ],
    ids=lambda header: header.type,
)
def test_a_message_comes_back_as_it_was_sent(header: object) -> None:
    found, arrays = unpack(pack(header, WEIGHTS), *ALL)
    assert found == header
    assert arrays.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == np.float32


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)),
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=4)),
)
def test_the_same_input_gives_the_same_bytes(one: np.ndarray, other: np.ndarray) -> None:
    first = pack(CONTRIBUTION, {"a": one, "b": other})
    assert (
        pack(CONTRIBUTION.model_copy(), {"b": other.copy(), "a": np.asfortranarray(one)}) == first
    )


@given(deltas=hnp.arrays(np.float32, (3, 2)), number=st.integers(1, 10**9))
def test_all_contributions_of_a_plan_have_one_length(deltas: np.ndarray, number: int) -> None:
    reference = pack_signed(CONTRIBUTION, {"w": np.zeros((3, 2), np.float32)}, KEY)
    header = Contribution(plan=PLAN.digest, round=number, node="a-much-longer-name-of-a-school")
    assert len(pack_signed(header, {"w": deltas}, OTHER_KEY)) == len(reference)


@given(st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=64))
def test_all_refusals_have_one_length_whatever_the_reason(code: str) -> None:
    reference = pack_signed(Refusal(plan="", round=0, node="north", code="budget"), {}, KEY)
    refusal = Refusal(plan=PLAN.digest, round=12, node="north", code=code)
    assert len(pack_signed(refusal, {}, KEY)) == len(reference)
    assert len(reference) > HEADER_BLOCK


@pytest.mark.parametrize("code", ["", "x" * 65, "learner 17 has\nno budget", "[red]", "Über"])
def test_a_refusal_is_a_word_never_a_text(code: str) -> None:
    with pytest.raises(ValueError, match="code"):
        Refusal(plan="", round=0, node="north", code=code)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(message, *ALL)


@settings(max_examples=300)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["__metadata__", "dtype", "shape", "data_offsets", "cloister", "a"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
    st.binary(max_size=16),
)
def test_well_framed_garbage_is_refused(header: object, data: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(safetensors_document(header, data), *ALL)


@settings(max_examples=500)
@given(position=st.integers(0, len(VALID) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_only_another_value(position: int, flip: int) -> None:
    damaged = bytearray(VALID)
    damaged[position] ^= flip
    try:
        header, _ = unpack(bytes(damaged), *ALL)
    except MessageError:
        return
    assert isinstance(header, ALL)


@pytest.mark.parametrize(
    "reply",
    [
        CONTRIBUTION,
        Refusal(plan="", round=0, node="north", code="message"),
        Receipt(plan=PLAN.digest, round=2, node="nörth"),
    ],
    ids=lambda reply: reply.type,
)
def test_a_signed_reply_is_authentic_and_says_whose_it_is(reply: Reply) -> None:
    found, arrays = unpack(pack_signed(reply, WEIGHTS, KEY), Contribution, Refusal, Receipt)
    assert is_authentic(found, arrays)
    assert found.model_copy(update={"key": "", "signature": ""}) == reply
    assert found.key == KEY.public
    assert not is_authentic(*unpack(pack(reply, WEIGHTS), Contribution, Refusal, Receipt))


@pytest.mark.parametrize(
    "change",
    [
        {"round": 8},
        {"node": "south"},
        {"plan": "0" * 64},
        {"key": OTHER_KEY.public},
        {"key": ""},
        {"signature": ""},
        {"signature": "0" * 128},
    ],
    ids=str,
)
def test_a_reply_of_which_anything_was_changed_is_not_authentic(change: dict[str, object]) -> None:
    header, arrays = unpack(VALID, Contribution)
    assert not is_authentic(header.model_copy(update=change), arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {**arrays, "dkt/input": np.nextafter(INPUT, np.float32(2))},
        lambda arrays: {**arrays, "more": INPUT},
        lambda arrays: {"dkt/input": INPUT},
        lambda arrays: {**arrays, "dkt/output": OUTPUT.reshape(3, 2)},
        lambda arrays: {**arrays, "dkt/input": INPUT.view(np.int32)},
    ],
    ids=["a bit", "one more", "one less", "another shape", "another type"],
)
def test_a_reply_with_other_arrays_is_not_authentic(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> None:
    header, arrays = unpack(VALID, Contribution)
    assert is_authentic(header, arrays)
    assert not is_authentic(header, change(arrays))


@settings(max_examples=300)
@given(position=st.integers(0, len(VALID) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_not_authentic_or_changes_nothing(
    position: int, flip: int
) -> None:
    damaged = bytearray(VALID)
    damaged[position] ^= flip
    try:
        header, arrays = unpack(bytes(damaged), Contribution)
    except MessageError:
        return
    if is_authentic(header, arrays):
        assert pack(header, arrays) == VALID


@pytest.mark.parametrize("field", ["key", "signature"])
@pytest.mark.parametrize("word", ["ab", "Z" * 64, "A" * 128, "a" * 65])
def test_a_key_and_a_signature_have_their_form(field: str, word: str) -> None:
    with pytest.raises(ValueError, match=field):
        Contribution(plan="", round=1, node="north", **{field: word})


@given(st.integers(0, len(VALID) - 1))
def test_a_truncated_message_is_refused(length: int) -> None:
    with pytest.raises(MessageError):
        unpack(VALID[:length], *ALL)


def test_a_longer_message_is_refused() -> None:
    with pytest.raises(MessageError):
        unpack(VALID + b"\0", *ALL)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 10**9, len(VALID)])
def test_a_huge_header_length_is_refused(size: int) -> None:
    with pytest.raises(MessageError):
        unpack(size.to_bytes(8, "little") + VALID[8:], *ALL)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [0] * 70, "data_offsets": [0, 0]},
        {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]},
        {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]},
        {"dtype": "OBJECT", "shape": [0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]},
    ],
    ids=lambda tensor: f"{tensor['dtype']} {tensor['shape'][:3]}",
)
def test_an_array_that_numpy_cannot_hold_is_refused(tensor: dict[str, object]) -> None:
    header = {"__metadata__": {"cloister": CONTRIBUTION.model_dump_json()}, "w": tensor}
    with pytest.raises(MessageError):
        unpack(safetensors_document(header), Contribution)


class Canary:
    """Would show that it was unpickled."""

    loaded = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (setattr, (Canary, "loaded", True))


def test_a_pickle_is_never_loaded() -> None:
    for message in (pickle.dumps(Canary()), safetensors_document({"a": 1}, pickle.dumps(Canary()))):
        with pytest.raises(MessageError):
            unpack(message, *ALL)
    assert not Canary.loaded


def test_another_type_of_message_is_refused() -> None:
    with pytest.raises(MessageError, match="expected a TrainRequest or Release, found another"):
        unpack(VALID, TrainRequest, Release)


def test_a_safetensors_document_of_someone_else_is_refused() -> None:
    for metadata in ({}, {"__metadata__": {"format": "pt"}}, {"__metadata__": {"cloister": "x"}}):
        with pytest.raises(MessageError):
            unpack(safetensors_document(metadata), *ALL)


@pytest.mark.parametrize(
    "change",
    [
        {"round": 0},
        {"round": "seven"},
        {"learners": 31},
        {"node": None},
        {"plan": 3},
    ],
)
def test_a_header_that_says_too_much_or_too_little_is_refused(change: dict[str, object]) -> None:
    text = json.dumps({**CONTRIBUTION.model_dump(), **change}, separators=(",", ":"))
    message = safetensors_document({"__metadata__": {"cloister": text}})
    with pytest.raises(MessageError, match=f"bad Contribution: {next(iter(change))}"):
        unpack(message, Contribution)


def test_a_request_with_a_bad_plan_is_refused_with_its_mistakes() -> None:
    document = TrainRequest(plan=PLAN, round=1).model_dump(mode="json")
    document["plan"]["quorum"] = 9
    message = safetensors_document(
        {"__metadata__": {"cloister": json.dumps(document, separators=(",", ":"))}}
    )
    with pytest.raises(MessageError, match="quorum 9 is more than the 1 nodes"):
        unpack(message, TrainRequest)


def test_splitting_undoes_joining() -> None:
    weights = {"dkt": {"a": OUTPUT, "b/c": INPUT}, "recommender": {"a": INPUT}}
    again = split(join(weights))
    assert again.keys() == weights.keys()
    for kind, arrays in weights.items():
        assert again[kind].keys() == arrays.keys()


def test_an_array_without_a_model_is_refused() -> None:
    with pytest.raises(MessageError, match="belongs to no model"):
        split({"output": OUTPUT})


def receipt(length: int) -> HeadReceipt:
    blank = HeadReceipt(
        ledger="a" * 32, length=length, digest="d" * 64, witness=KEY.public, counter=length
    )
    return blank.signed(KEY)


def test_each_node_finds_its_own_receipt_and_all_get_the_same_bytes() -> None:
    kept = {"north": receipt(3), "süd": receipt(10_000)}
    packed = pack_receipts(kept)
    assert packed == pack_receipts(dict(reversed(kept.items())))
    assert {name: receipt_of(packed, name) for name in kept} == kept
    assert receipt_of(packed, "west") is None
    assert all(one.is_authentic for one in kept.values())


def test_receipts_are_as_long_whatever_they_say() -> None:
    lengths = {len(pack_receipts({"north": receipt(10**power)})) for power in range(9)}
    assert lengths == {len(pack_receipts({}))} == {HEADER_BLOCK}


def test_where_nothing_came_beside_a_request_there_is_no_receipt() -> None:
    assert receipt_of(b"", "north") is None


@pytest.mark.parametrize(
    "content",
    [b"[", b"[]", b"\xff", b"7", b'{"north": 1}', b'{"north": {}}', b"[" * 100_000],
    ids=lambda content: repr(content[:20]),
)
def test_receipts_of_another_form_are_a_message_error(content: bytes) -> None:
    with pytest.raises(MessageError, match="receipts cannot be read"):
        receipt_of(content, "north")


@pytest.mark.parametrize("field", ["ledger", "length", "digest", "witness", "counter", "nonce"])
def test_a_receipt_of_which_anything_was_changed_is_not_authentic(field: str) -> None:
    other = {"length": 4, "counter": 9, "witness": OTHER_KEY.public}.get(field, "b" * 32)
    assert not receipt(3).model_copy(update={field: other}).is_authentic

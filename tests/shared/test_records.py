"""Records of messages, read by hand: as Flower writes them, and nothing else."""

import pytest
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st

from cloister_shared.records import is_record, read_record

ITEMS = st.dictionaries(st.text(min_size=1, max_size=300), st.binary(max_size=300), max_size=4)


def written(items: dict[str, object]) -> bytes:
    """What Flower makes of them."""
    return ConfigRecord(items).deflate()


@given(ITEMS)
def test_what_flower_writes_is_read(items: dict[str, bytes]) -> None:
    assert is_record(written(items))
    assert read_record(written(items), 4) == items


def test_long_values_are_read() -> None:
    items = {"body": bytes(2**21 + 1), "receipts": b""}
    assert read_record(written(items), 4) == items


@pytest.mark.parametrize(
    "value", ["text", 5, 0.5, True, [1, 2], [b"one", b"two"], list(range(9_000))], ids=str
)
def test_values_of_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="record"):
        read_record(written({"body": value}), 4)


def test_no_item_beyond_the_most_is_looked_at() -> None:
    items = {str(one): b"" for one in range(5)}
    assert len(read_record(written(items), 5)) == 5
    with pytest.raises(ValueError, match="more than"):
        read_record(written(items), 4)
    with pytest.raises(ValueError, match="more than"):
        read_record(written(dict(list(items.items())[:4])) + b"\xff" * 9, 4)


def test_items_without_a_key_or_a_value_are_refused() -> None:
    for item in (b"\x0a\x00", b"\x0a\x03\x0a\x01k", b"\x0a\x04\x12\x02\x32\x00"):
        with pytest.raises(ValueError, match="another form"):
            read_record(b"ConfigRecord  9\x00" + item, 4)


@given(ITEMS, st.data())
def test_a_record_that_is_cut_off_or_altered_is_never_read_past_its_end(
    items: dict[str, bytes], data: st.DataObject
) -> None:
    record = bytearray(written(items))
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= 1 << data.draw(st.integers(0, 7))
    for hostile in (bytes(record), written(items)[:place]):
        try:
            found = read_record(hostile, 4)
        except ValueError:
            continue
        assert sum(map(len, found.values())) <= len(hostile)


@pytest.mark.parametrize("part", [b"", b"Message  3\x00abc", b"ConfigRecord  ", b"ConfigRecord x"])
def test_another_part_is_no_record(part: bytes) -> None:
    with pytest.raises(ValueError, match="no record"):
        read_record(part, 4)


def test_a_length_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end"):
        read_record(b"ConfigRecord  9\x00\x0a" + b"\xff" * 9, 4)

"""Flower's record of a few byte strings, read by hand, before anything else takes it apart.

In 64 MiB are thirty million items where somebody puts them there, and who parses all of that has no
memory left. Ours have four at most. The form is ``ConfigRecord`` of Flower's
``recorddict.proto``, behind a head of its own; tests compare with what Flower itself writes.
"""

_HEAD = b"ConfigRecord  "
"""Kind and children, of which there are none; then the length in digits, and a zero byte."""
_LONGEST_LENGTH = 20
_ITEM, _KEY, _VALUE, _BYTES = (number << 3 | 2 for number in (1, 1, 2, 6))
"""Tags of fields: their number, and that a length and so many bytes follow."""
_LONGEST_VARINT = 5


def is_record(part: bytes) -> bool:
    """Whether a part of a message says that it is a record of plain values."""
    return part.startswith(_HEAD)


def read_record(part: bytes, most: int) -> dict[str, bytes]:
    """The items of a record, all of them byte strings.

    Raises ``ValueError`` for any other form; no more than ``most`` items are looked at.
    """
    start = part.find(b"\0", 0, len(_HEAD) + _LONGEST_LENGTH) + 1
    if not is_record(part) or not start:
        raise ValueError("no record of a message")
    items: dict[str, bytes] = {}
    fields = _Fields(memoryview(part)[start:])
    for _ in range(most):
        if fields.are_over:
            break
        item = _Fields(fields.take(_ITEM))
        key = bytes(item.take(_KEY)).decode()
        value = _Fields(item.take(_VALUE))
        items[key] = bytes(value.take(_BYTES))
        item.end()
        value.end()
    fields.end()
    return items


class _Fields:
    """Fields of bytes in protobuf's wire format, taken one after the other."""

    def __init__(self, left: memoryview) -> None:
        self._left = left

    @property
    def are_over(self) -> bool:
        return not self._left

    def take(self, tag: int) -> memoryview:
        """The next field, which has this tag."""
        if self.are_over or self._left[0] != tag:
            raise ValueError("a record of another form")
        length, start = self._length()
        if start + length > len(self._left):
            raise ValueError("a record that ends too early")
        field, self._left = self._left[start : start + length], self._left[start + length :]
        return field

    def end(self) -> None:
        """Raise ``ValueError`` if more follows."""
        if not self.are_over:
            raise ValueError("a record of more than it may have")

    def _length(self) -> tuple[int, int]:
        """The length behind the tag, a varint, and where its field begins."""
        length = 0
        for place, byte in enumerate(self._left[1 : 1 + _LONGEST_VARINT]):
            length |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return length, place + 2
        raise ValueError("a record with a length that does not end")

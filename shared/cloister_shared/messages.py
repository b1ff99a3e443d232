"""Messages as bytes: a validated header and arrays in one safetensors document.

No pickle anywhere. The header is padded so that messages of one kind and run have one length.
What nodes say is signed: header and arrays, all but the signature itself.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cloister_shared.canonical import canonical_json
from cloister_shared.compression import Arrays
from cloister_shared.errors import MessageError
from cloister_shared.frozen import Frozen, describe
from cloister_shared.model_manifest import SignedManifest
from cloister_shared.plan import Plan
from cloister_shared.privacy.ledger_format import HeadReceipt, SignedHead
from cloister_shared.signing import PUBLIC_DIGITS, SIGNATURE_DIGITS, SigningKey, is_signed

HEADER_BLOCK = 4096
HEADER_KEY = "cloister"
MAX_SERIAL = 2**53
"""Of a release: more seconds than there will be, and a number that every database keeps exactly."""

# Where a message's bytes lie in a Flower message, and which handler gets them.
RECORD_KEY = "cloister"
BODY_KEY = "body"
RECEIPTS_KEY = "receipts"
TERMS_KEY = "terms"
SIGNATURE_KEY = "signature"
MOST_PARTS = 16
"""An honest Flower message has a few; each may be as large as the link lets a body be."""
TRAIN_ACTION = "round"
EVALUATE_ACTION = "metrics"
RELEASE_ACTION = "release"
Question = Literal["train", "evaluate", "release"]
"""What a coordinator asks of nodes."""
MESSAGE_TYPES: dict[Question, str] = {
    "train": f"train.{TRAIN_ACTION}",
    "evaluate": f"evaluate.{EVALUATE_ACTION}",
    "release": f"query.{RELEASE_ACTION}",
}
"""How Flower's messages call each question."""


class TrainRequest(Frozen):
    """Coordinator → node: do round ``round`` of ``plan``; arrays are the current weights."""

    type: Literal["train_request"] = "train_request"
    plan: Plan
    round: int = Field(ge=1)


class EvaluateRequest(Frozen):
    """Coordinator → node: metrics of the models after round ``round``; arrays are their weights."""

    type: Literal["evaluate_request"] = "evaluate_request"
    plan: Plan
    round: int = Field(ge=1)


class Reply(Frozen):
    """Node → coordinator: what node ``node`` says about round ``round`` of the plan ``plan``.

    ``signature`` is made with the private half of ``key``, see :func:`pack_signed`; both are empty
    before that.
    """

    type: str
    plan: str
    round: int = Field(ge=1)
    node: str
    key: str = Field(default="", pattern=rf"^([0-9a-f]{{{PUBLIC_DIGITS}}})?$")
    signature: str = Field(default="", pattern=rf"^([0-9a-f]{{{SIGNATURE_DIGITS}}})?$")


class Answer(Reply):
    """What was made of learners' records, and where the ledger stood once it was charged.

    Simulated participants without a ledger have no ``head``.
    """

    head: SignedHead | None = None


class Contribution(Answer):
    """Arrays are weight deltas, differentially private by themselves."""

    type: Literal["contribution"] = "contribution"


class MetricReport(Answer):
    """Arrays are one noisy histogram for each model, ``kind/histogram``."""

    type: Literal["metric_report"] = "metric_report"


class Refusal(Reply):
    """No contribution, for a reason that tells nothing about learners.

    ``head`` is of a ledger that was put back from a backup, with the code ``restored``: the node
    asks whether the coordinator has seen more of it.
    """

    type: Literal["refusal"] = "refusal"
    head: SignedHead | None = None
    round: int = Field(ge=0)
    code: str = Field(max_length=64, pattern=r"^[a-z_]+$")


class Release(Frozen):
    """Coordinator → node: arrays are finished models of ``plan``.

    With ``manifests`` they are those models, signed versions of a registry; without, all of them.
    ``serial`` is of the registry's choice that these are in, and grows with every choice; 0 where
    there is no registry.
    """

    type: Literal["release"] = "release"
    plan: Plan
    round: int = Field(ge=1)
    serial: int = Field(default=0, ge=0, le=MAX_SERIAL)
    manifests: tuple[SignedManifest, ...] = ()


class Receipt(Reply):
    """The release was stored."""

    type: Literal["receipt"] = "receipt"


Header = TypeVar("Header", bound=Frozen)


def pack(header: Frozen, arrays: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """One message; the same header and arrays always give the same bytes."""
    text = header.model_dump_json()
    size = len(text.encode())
    padded = text + " " * (-size % HEADER_BLOCK)
    ordered = {name: np.ascontiguousarray(array) for name, array in sorted((arrays or {}).items())}
    return save(ordered, metadata={HEADER_KEY: padded})


def pack_signed(reply: Reply, arrays: Arrays, key: SigningKey) -> bytes:
    """One message, signed; as long as any other with these arrays."""
    keyed = reply.model_copy(update={"key": key.public})
    signature = key.sign(_signable(keyed, arrays))
    return pack(keyed.model_copy(update={"signature": signature}), arrays)


def is_authentic(reply: Reply, arrays: Arrays) -> bool:
    """Whether the holder of the reply's own key said exactly this; no for an unsigned reply."""
    return is_signed(_signable(reply, arrays), reply.signature, reply.key)


def _signable(reply: Reply, arrays: Arrays) -> bytes:
    """What a reply's signature is of: the digest of its bytes with a signature of zeros."""
    blank = pack(reply.model_copy(update={"signature": "0" * SIGNATURE_DIGITS}), arrays)
    return canonical_json({"type": "reply", "sha256": hashlib.sha256(blank).hexdigest()})


def pack_receipts(receipts: Mapping[str, HeadReceipt]) -> bytes:
    """What goes to every node beside a request: by node name, how the coordinator saw its ledger.

    It is no part of the request, which stays the same when it is asked again later.
    """
    named = {name: receipts[name].model_dump(mode="json") for name in sorted(receipts)}
    text = canonical_json(named)
    return text + b" " * (-len(text) % HEADER_BLOCK)


def receipt_of(receipts: bytes, node: str) -> HeadReceipt | None:
    """The receipt for ``node`` out of :func:`pack_receipts`; ``None`` if there is none.

    Raises ``MessageError`` if this cannot be read.
    """
    try:
        one = _named(receipts).get(node)
        return None if one is None else HeadReceipt.model_validate(one)
    except (ValueError, AttributeError) as error:
        raise MessageError("the receipts cannot be read") from error


@lru_cache(maxsize=1)
def _named(receipts: bytes) -> Any:
    """Decoded once for all nodes of a process."""
    return from_json(receipts or b"{}")


def unpack(message: bytes, *headers: type[Header]) -> tuple[Header, Arrays]:
    """Header and arrays of a message; raises ``MessageError`` unless it is one of ``headers``.

    The arrays are whatever was sent: :func:`~cloister_shared.compression.decode` checks weights.
    """
    text, arrays = _opened(message)
    for header_type in headers:
        if f'"type":"{header_type.model_fields["type"].default}"' in text[:64]:
            try:
                return header_type.model_validate_json(text), arrays
            except ValidationError as error:
                raise MessageError(f"bad {header_type.__name__}: {describe(error)}") from error
    wanted = " or ".join(header_type.__name__ for header_type in headers)
    raise MessageError(f"expected a {wanted}, found another message")


def read_head(path: Path, header: type[Header]) -> Header:
    """The header of a message in a file of our own, whose arrays are not looked at.

    Raises ``MessageError`` if it has none, ``OSError`` if the file cannot be read.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(min(size, path.stat().st_size))
    try:
        return header.model_validate_json(_Preamble.model_validate_json(text).metadata[HEADER_KEY])
    except (ValidationError, KeyError) as error:
        raise MessageError(f"the file has no {header.__name__}") from error


def _opened(message: bytes) -> tuple[str, Arrays]:
    """The header's JSON, out of the safetensors metadata, and the arrays."""
    try:
        arrays = load(message)
        size = int.from_bytes(message[:8], "little")
        metadata = _Preamble.model_validate_json(message[8 : 8 + size]).metadata
        return metadata[HEADER_KEY], arrays
    # ValueError also for shapes, KeyError also for dtypes that numpy does not have.
    except (SafetensorError, ValueError, KeyError) as error:
        raise MessageError("the message is not a safetensors document with a header") from error


class _Preamble(Frozen):
    """The part of safetensors' own header that we read."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    metadata: dict[str, str] = Field(alias="__metadata__")


def join(weights: Mapping[str, Arrays]) -> Arrays:
    """Several models' arrays in one flat dictionary, named ``kind/array``."""
    return {
        f"{kind}/{name}": array
        for kind, arrays in weights.items()
        for name, array in arrays.items()
    }


def split(arrays: Arrays) -> dict[str, Arrays]:
    """Undo :func:`join`; a name without a kind is a ``MessageError``."""
    weights: dict[str, Arrays] = {}
    for full_name, array in arrays.items():
        kind, slash, name = full_name.partition("/")
        if not slash:
            raise MessageError(f"array {full_name!r} belongs to no model")
        weights.setdefault(kind, {})[name] = array
    return weights

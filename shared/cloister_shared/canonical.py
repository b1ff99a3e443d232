"""One byte representation of a JSON document, so that digests mean the same everywhere."""

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(document: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; NaN and infinities raise ``ValueError``."""
    return _ENCODER.encode(document).encode()


def digest(document: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(document)).hexdigest()

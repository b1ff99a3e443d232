"""Whether a request comes from the coordinator: a signature over all its bytes, checked first.

It lies beside the request, not in it: nothing of a request is parsed before its signature is found
to be good. The plan, the round and the weights are in these bytes, so nobody on the way can change
one of them. Asked again, a request is the same bytes with the same signature.
"""

import hashlib

from cloister_shared.canonical import canonical_json
from cloister_shared.errors import PolicyError
from cloister_shared.signing import SigningKey, is_signed


def sign_request(body: bytes, key: SigningKey) -> bytes:
    """The coordinator's signature of a request, as 128 hex digits in ASCII."""
    return key.sign(_signable(body)).encode()


def check_request(body: bytes, signature: bytes, coordinator: str) -> None:
    """Raise ``PolicyError`` unless the holder of the public key ``coordinator`` signed ``body``."""
    if not is_signed(_signable(body), signature.decode("ascii", "replace"), coordinator):
        raise PolicyError(
            "the request is not signed with the key of this node's coordinator: it was altered on "
            "the way, or somebody else asks",
            "signature",
        )


def _signable(body: bytes) -> bytes:
    return canonical_json({"type": "request", "sha256": hashlib.sha256(body).hexdigest()})

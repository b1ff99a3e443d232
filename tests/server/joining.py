"""What a node sends when it joins, made by hand."""

from tests.server.members import transport_key

from cloister_shared.kit import JoinRequest, SignedKit, SignedRequest
from cloister_shared.signing import SigningKey


def request_with(signed: SignedKit, key: SigningKey | None = None, **fields: object) -> JoinRequest:
    """A request with the kit's token, keys of its own unless told otherwise."""
    request = JoinRequest(
        node=signed.kit.node,
        token=signed.kit.token,
        transport_key=transport_key(),
        signing_key=(key or SigningKey.generate()).public,
        declared_size=100,
        release="0.1.0",
    )
    return request.model_copy(update=fields)


def body_of(signed: SignedKit) -> bytes:
    """The bytes that a fresh node sends."""
    key = SigningKey.generate()
    return SignedRequest.sign(request_with(signed, key), key).model_dump_json().encode()

"""What a node sends when it joins, made by hand."""

from cryptography.hazmat.primitives.asymmetric import ec
from tests.server.members import public_pem, transport_key

from cloister_shared.kit import JoinRequest, SignedKit, SignedRequest
from cloister_shared.signing import SigningKey


def request_with(signed: SignedKit, **fields: object) -> JoinRequest:
    """A request with the kit's token, keys of its own unless told otherwise."""
    request = JoinRequest(
        node=signed.kit.node,
        token=signed.kit.token,
        transport_key=transport_key(),
        signing_key=SigningKey.generate().public,
        declared_size=100,
        release="0.1.0",
    )
    return request.model_copy(update=fields)


def body_of(signed: SignedKit, key: SigningKey | None = None, **fields: object) -> bytes:
    """The bytes that a fresh node sends, signed with both of its keys; ``fields`` may tell lies."""
    key, transport = key or SigningKey.generate(), ec.generate_private_key(ec.SECP384R1())
    keys = {"signing_key": key.public, "transport_key": public_pem(transport)}
    request = request_with(signed, **{**keys, **fields})
    return SignedRequest.join(request, key, transport).model_dump_json().encode()

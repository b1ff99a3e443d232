"""Flower's client for its fleet interface, over connections of our own."""

import ssl

import httpx
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

from cloister_client.fleet.clock import SignedTime

_CALL_S = 120.0
_LOOK_S = 30.0
"""For a look for messages, which the coordinator holds for some seconds: none is large."""
_KEEP_S = 30.0
"""Longer than the pause between two heartbeats: where strangers crowd the door, a new connection
may find no place. The coordinator keeps one for longer still."""
_SMALL_BYTES = 2**20
"""Of all answers but the parts of messages."""
_PARTS = "/pull-object"


def connect(address: str, authority: bytes, signed: SignedTime, max_bytes: int) -> FleetHttpClient:
    """Flower's client, without its retries and its redirects.

    ``authority`` is the PEM certificate of the only one that is believed. An answer that is longer
    than ``max_bytes``, or than a mebibyte if it is no part of a message, is an
    ``httpx.DecodingError`` and not read.
    """
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=authority.decode("ascii"))
    client = FleetHttpClient(f"https://{address}", interceptors=[signed, _Patience()], verify=trust)

    def bound(response: httpx.Response) -> None:
        length = response.headers.get("content-length", "")
        if "content-encoding" in response.headers or not length.isdigit():
            raise httpx.DecodingError("an answer of a length that is not told")
        is_part = response.request.url.path.endswith(_PARTS)
        most = max_bytes if is_part else min(_SMALL_BYTES, max_bytes)
        if int(length) > most:
            raise httpx.DecodingError(f"an answer of {length} bytes; {most} are taken")

    client.close()  # Flower's own connections, of which none is open, are none of these
    client._client = httpx.Client(
        verify=trust,
        timeout=_CALL_S,
        limits=httpx.Limits(keepalive_expiry=_KEEP_S),
        event_hooks={"response": [bound]},
        follow_redirects=False,
    )
    return client


class _Patience:
    """A look over a connection that is dead is given up before any round is."""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Send the request; a look for messages waits for its answer as long as one is held."""
        if isinstance(context.message, PullMessagesRequest):
            context.request.extensions["timeout"] = httpx.Timeout(_LOOK_S).as_dict()
        return call_next(context)

"""The coordinator's time, as a node knows it: by the answers that come over TLS."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

_CLOCK_S = 2.0
"""Clocks that differ by less are taken for equal: the coordinator tells whole seconds."""
_FARTHEST = timedelta(days=3652)
"""A date that is farther away says nothing: certificates are not good for so long."""

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """This machine's time, be it right or wrong."""
    return datetime.now(UTC)


class SignedTime:
    """Authenticates every request by a signature over the coordinator's time.

    That is this machine's, corrected by what the coordinator's answers say: a clock that is wrong
    by a day keeps nobody out.
    """

    def __init__(self, key: EllipticCurvePrivateKey, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self.public = public_key_to_bytes(key.public_key())
        self.offset = timedelta()

    def now(self) -> datetime:
        """The coordinator's time."""
        return self._clock() + self.offset

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Send the request; once more if it was refused for a clock that proved to be wrong."""
        self._sign(context.request)
        sent = self._clock()
        response = call_next(context)
        if self._learn(response, sent) and response.status_code == httpx.codes.UNAUTHORIZED:
            self._sign(context.request)
            response = call_next(context)
        return response

    def _sign(self, request: httpx.Request) -> None:
        timestamp = self.now().isoformat()
        signature = sign_message(self._key, timestamp.encode("ascii"))
        request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER] = b64encode(self.public).decode()
        request.headers[FLEET_HTTP_SIGNATURE_HEADER] = b64encode(signature).decode()
        request.headers[TIMESTAMP_HEADER] = timestamp

    def _learn(self, response: httpx.Response, sent: datetime) -> bool:
        """Whether the answer's date says that the offset was wrong.

        It is of any time since the request was ``sent``: the coordinator holds some for seconds.
        """
        try:
            told = parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError, OverflowError):
            return False
        if told.tzinfo is None:  # written as of no zone that is known
            return False
        offset = told - self._clock()
        if abs(offset) > _FARTHEST:
            return False
        earliest = (told - sent - self.offset).total_seconds()
        latest = (told - self.now()).total_seconds()
        if earliest >= -_CLOCK_S and latest <= _CLOCK_S:
            return False
        self.offset = offset
        return True

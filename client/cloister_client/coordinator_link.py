"""What a node has pinned of its coordinator, and the one question that it asks before Flower."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpx
from pydantic import Field, ValidationError

from cloister_shared.durable import write_durably
from cloister_shared.errors import ConfigError, PolicyError, ServiceError
from cloister_shared.fingerprints import coordinator_fingerprint
from cloister_shared.frozen import Frozen
from cloister_shared.kit import (
    JOIN_PATH,
    AuthorityPem,
    JoinAnswer,
    Kit,
    PublicKey,
    PublicName,
    SignedRequest,
)

_SECONDS = 20.0
_LONGEST_ANSWER = 64 * 1024


class Told(NamedTuple):
    """What the coordinator answered, and what time it was there; ``None`` if it did not say."""

    answer: JoinAnswer
    at: datetime | None


class CoordinatorLink(Frozen):
    """A kit without its token: ``authority`` is the one that TLS may rest on, ``key`` the one that
    whatever the coordinator says must be signed with, ``curriculum`` a digest.
    """

    consortium: PublicName
    node: PublicName
    host: str
    port: int = Field(ge=1, le=65535)
    authority: AuthorityPem
    key: PublicKey
    curriculum: str

    @classmethod
    def of(cls, kit: Kit) -> "CoordinatorLink":
        """What stays of a kit."""
        return cls(
            consortium=kit.consortium,
            node=kit.node,
            host=kit.host,
            port=kit.port,
            authority=kit.authority,
            key=kit.coordinator_key,
            curriculum=kit.curriculum.digest,
        )

    @classmethod
    def load(cls, path: Path) -> "CoordinatorLink":
        """What was pinned; ``ConfigError`` if the file cannot be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{path} cannot be read; restore it, or delete it and join again with a new kit"
            ) from error

    def save(self, path: Path) -> None:
        """Pin it."""
        write_durably(path, self.model_dump_json(indent=1).encode())

    @property
    def fingerprint(self) -> str:
        """The coordinator's, as its operator reads it."""
        return coordinator_fingerprint(self.key, self.authority)

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext:
        """Trusts the coordinator's own authority and no other."""
        return ssl.create_default_context(cadata=self.authority)

    def ask(self, request: SignedRequest) -> Told:
        """Send a request to join, or for one's standing.

        Raises ``PolicyError`` if it was refused, ``ServiceError`` if there was no proper answer.
        """
        with self._talking(), httpx.Client(verify=self.tls(), timeout=_SECONDS) as client:
            body = request.model_dump_json().encode()
            with client.stream("POST", f"https://{self.address}{JOIN_PATH}", content=body) as reply:
                content = _read(reply)
        if reply.status_code != httpx.codes.OK:
            raise PolicyError(_reason(content, reply.status_code), "coordinator")
        try:
            return Told(JoinAnswer.model_validate_json(content), _date(reply))
        except ValidationError as error:
            raise ServiceError(
                f"{self.address} did not answer as a coordinator does; check the address"
            ) from error

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the coordinator at {self.address} cannot be asked ({error}); nothing is lost, "
                "do the same again once cloister node preflight finds it"
            ) from error


def _read(reply: httpx.Response) -> bytes:
    """The answer, or its beginning if it is longer than any answer is."""
    content = b""
    for part in reply.iter_bytes():
        content += part
        if len(content) > _LONGEST_ANSWER:
            break
    return content


def _reason(content: bytes, status: int) -> str:
    """The coordinator's sentence, printable and on one line."""
    try:
        said = json.loads(content)["error"]
    except (ValueError, TypeError, KeyError):
        said = f"it answered with the status {status}"
    printable = "".join(one if one.isprintable() else " " for one in str(said)[:500])
    return f"the coordinator refused: {printable}"


def _date(reply: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(reply.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None

"""The coordinator's config file, ``coordinator.yaml``: see the example in ``configs``."""

from typing import Annotated

from pydantic import Field

from cloister_shared.frozen import Frozen
from cloister_shared.kit import PublicName

Host = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9.:-]+$")]
"""A DNS name or an IP address."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Limits(Frozen):
    """What the public listener takes of one peer, before anything else looks at it.

    ``max_body_mib`` bounds one request's body, ``body_seconds`` the time it may take to arrive,
    ``head_seconds`` that of a request's headers, the first one's together with the TLS handshake.
    A node may send ``requests_per_second`` in the long run and ``burst`` at once; an address may
    ask to join ``joins_per_minute`` times. ``connections`` are those of all peers together,
    ``connections_per_address`` those of one address (IPv6: one /64) whose peers have not proved yet
    which nodes they are, and those of one node.
    """

    max_body_mib: int = Field(default=64, ge=1, le=1024)
    body_seconds: float = Field(default=60.0, gt=0)
    head_seconds: float = Field(default=10.0, gt=0)
    requests_per_second: float = Field(default=60.0, gt=0)
    burst: int = Field(default=300, ge=1)
    joins_per_minute: int = Field(default=6, ge=1)
    connections: int = Field(default=500, ge=1)
    connections_per_address: int = Field(default=64, ge=1)

    @property
    def max_body_bytes(self) -> int:
        """The largest body, in bytes."""
        return self.max_body_mib * 2**20


class CoordinatorConfig(Frozen):
    """What a consortium decides about its coordinator.

    Nodes reach it at ``address`` and ``port``; its certificate is for ``address`` and
    ``other_addresses``. The public listener is bound to ``listen``. ``control_port`` and
    ``console_port`` are on loopback alone: the control interface and the status page.
    A kit is valid for ``invitation_days``.
    """

    consortium: PublicName
    address: Host
    port: Port = 8443
    listen: Host = "0.0.0.0"  # noqa: S104 - nodes are elsewhere; see the guard
    other_addresses: tuple[Host, ...] = Field(default=(), max_length=20)
    control_port: Port = 8000
    console_port: Port = 8080
    invitation_days: float = Field(default=14.0, gt=0, le=365)
    limits: Limits = Limits()

    @property
    def addresses(self) -> tuple[str, ...]:
        """All names and addresses under which nodes may reach the coordinator, each once."""
        return tuple(dict.fromkeys((self.address, *self.other_addresses)))

"""The coordinator's network: one SuperLink, a listener for nodes and one for this machine alone."""

import asyncio
import logging
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio.to_thread
import uvicorn
from flwr.supercore.logger import LOGGER_NAME
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister_server.bell import HOLD_S, Bell, BellRoute, HeldLooks
from cloister_server.directory import Directory, Member
from cloister_server.door import Door
from cloister_server.guard import ControlGuard, FleetGuard
from cloister_server.home import CoordinatorHome
from cloister_server.listener import PublicServer, QuietServer
from cloister_server.seldom import Heard, Seldom, SeldomLogged, Told
from cloister_server.superlink import LOOPBACK, Control, make_app
from cloister_shared.errors import ServiceError
from cloister_shared.kit import JOIN_PATH

_THREADS = 4
"""Calls that Flower works on at one time; each has a connection to SQLite of its own."""
_LOOK_S = 0.5
"""Between looks whether the operator has approved a node."""
_GRACE_S = 3
"""At the end, for calls that are worked on."""
_OTHER_FILES = 512
"""Beside connections: databases, journals, loopback, and peers that are just being turned away."""
_LOUD = ("uvicorn.error", "asyncio", LOGGER_NAME)
"""Loggers that complain, at length, of what peers did."""


@dataclass(frozen=True)
class PublicListener:
    """What nodes and those who want to join can reach: ``join`` on its one path, else ``fleet``."""

    fleet: ASGIApp
    join: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, to where it belongs."""
        app = self.join if scope.get("path") == JOIN_PATH else self.fleet
        await app(scope, receive, send)


def serve_link(
    home: CoordinatorHome, join: ASGIApp, told: Told, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT; ``told`` hears of what is refused, some times a minute.

    ``ready`` is called once both listeners listen. Raises ``ServiceError`` if an address is taken,
    or if this process may not open files enough.
    """
    allow_files(home.config.limits.connections)
    for name in _LOUD:
        logging.getLogger(name).addFilter(SeldomLogged())
    asyncio.run(_serve(home, join, Seldom(told), ready))


def allow_files(connections: int) -> None:
    """Let this process have so many connections open at once; ``ServiceError`` if it may not."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ServiceError(
            f"limits.connections is {connections}, for which {wanted} open files are needed; this "
            f"process may have {hard}: raise LimitNOFILE of its unit (ulimit -n), or lower it"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(
    home: CoordinatorHome, join: ASGIApp, heard: Heard, ready: Callable[[], None]
) -> None:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    bell, loop = Bell(), asyncio.get_running_loop()
    both = servers(home, join, heard, bell)

    def stop() -> None:
        bell.close()
        for server in both:
            server.should_exit = True

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop)
    beside = asyncio.create_task(_once_up(both, home, ready))
    try:
        await asyncio.gather(*(_run(server, stop) for server in both))
    finally:
        beside.cancel()


def servers(
    home: CoordinatorHome, join: ASGIApp, heard: Heard, bell: Bell, hold_s: float = HOLD_S
) -> tuple[QuietServer, PublicServer]:
    """One SuperLink, served on loopback and, guarded, to everybody.

    A node's look for messages waits for ``bell``, for ``hold_s`` seconds or half of what a request
    may take.
    """
    app, config, directory = make_app(home), home.config, home.directory()
    fleet = HeldLooks(app, bell, min(hold_s, config.limits.body_seconds / 2))
    guarded = FleetGuard(fleet, lambda key: _name(directory, key), config.limits, heard)
    private = uvicorn.Config(
        ControlGuard(BellRoute(app, bell), home.control_secret()),
        host=LOOPBACK,
        port=config.control_port,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=_GRACE_S,
        log_config=None,
        access_log=False,
    )
    public = PublicServer(
        PublicListener(guarded, join),
        Door(config.limits, heard),
        (config.listen, config.port),
        home.tls_files(),
    )
    return QuietServer(private), public


async def _run(server: QuietServer, stop: Callable[[], None]) -> None:
    """Serve; when one server ends, both do."""
    try:
        await server.serve()
    except (SystemExit, OSError) as error:  # uvicorn's way to say that it cannot listen, and ours
        address = f"{server.config.host}:{server.config.port}"
        raise ServiceError(
            f"cannot listen on {address}: is the coordinator up already, or the port taken?"
        ) from error
    finally:
        stop()


def _name(directory: Directory, key: bytes) -> str | None:
    member = directory.by_transport_key(key)
    return None if member is None else member.name


async def _once_up(
    both: tuple[QuietServer, ...], home: CoordinatorHome, ready: Callable[[], None]
) -> None:
    while not all(server.started for server in both):
        await asyncio.sleep(_LOOK_S / 10)
    ready()
    await _register(home)


async def _register(home: CoordinatorHome) -> None:
    """Tell Flower of nodes that were approved, as soon as they are."""
    directory, control = home.directory(), Control(home)
    known: dict[str, Member] = {}
    while True:
        approved = directory.approved()
        if approved != known:
            with suppress(ServiceError):  # asked again at the next look
                await asyncio.to_thread(register_all, control, approved)
                known = approved
        await asyncio.sleep(_LOOK_S)


def register_all(control: Control, approved: dict[str, Member]) -> None:
    """Let every approved node in that Flower does not know yet."""
    there = control.nodes()
    for name, member in approved.items():
        key = member.transport_key.encode()
        if key not in there:
            control.register(key, name)

"""Preflight: what would keep a node from taking part, and what to do about it.

Checks are made in the order of :data:`CHECKS`. What rests on a check that failed is left out.
"""

import shutil
import socket
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from cloister_client.coordinator_link import CoordinatorLink, Told
from cloister_client.home import KEYS, NodeHome
from cloister_shared.bundles import ACCEPTED
from cloister_shared.errors import CloisterError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.frozen import Frozen
from cloister_shared.kit import SignedRequest, Standing, StandingRequest
from cloister_shared.privacy.budget_report import report_budget

LEAST_FREE_BYTES = 2**30
MOST_CLOCK_SECONDS = 60.0
_PATIENCE_S = 10.0

_STRANGER_FIX = (
    "do not go on: somebody may stand in between; call the operator, and compare fingerprints"
)
_NAME_FIX = "ask the operator to add this address to other_addresses and to start again"
_TIME_FIX = (
    "set this machine's clock; if it is right, the operator starts the coordinator again, which "
    "makes the certificate anew"
)
_CERTIFICATE_FIXES = {9: _TIME_FIX, 10: _TIME_FIX, 62: _NAME_FIX, 64: _NAME_FIX}
"""By OpenSSL's code: not valid yet, not any more, of another name, of another address."""


class Finding(Frozen):
    """What one check found: nothing, if there is no ``problem``; ``fix`` says what to do."""

    check: str
    problem: str = ""
    fix: str = ""


class _FoundError(Exception):
    """A check that did not hold."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


@dataclass
class _Case:
    """A node's folder, and what was found out about it so far."""

    folder: Path
    accepted: Collection[str]

    @cached_property
    def home(self) -> NodeHome:
        return NodeHome.open(self.folder)

    @cached_property
    def link(self) -> CoordinatorLink:
        link = self.home.coordinator()
        if link is None:
            raise _FoundError(
                "the node has not joined a consortium", "cloister node join KIT DIR, with a kit"
            )
        return link

    @cached_property
    def told(self) -> Told:
        key = self.home.signing_key()
        question = StandingRequest(node=self.link.node, signing_key=key.public)
        return self.link.ask(SignedRequest.standing(question, key))

    @property
    def fingerprint(self) -> str:
        return node_fingerprint(self.home.signing_key().public, self.home.transport_public_key())


@dataclass(frozen=True)
class Check:
    """``hold`` raises unless all is well; it is not asked if the check ``after`` did not hold."""

    name: str
    hold: Callable[[_Case], None]
    after: str = ""


def preflight(folder: Path, accepted: Collection[str] = tuple(ACCEPTED)) -> list[Finding]:
    """What was found of the node in ``folder``, check by check; nothing is changed.

    ``accepted`` are the coordinator's releases with which the node takes part.
    """
    case = _Case(folder, accepted)
    findings: dict[str, Finding] = {}
    for check in CHECKS:
        before = findings.get(check.after)
        if check.after and (before is None or before.problem):
            continue
        findings[check.name] = _examine(check, case)
    return list(findings.values())


def _examine(check: Check, case: _Case) -> Finding:
    try:
        check.hold(case)
    except _FoundError as error:
        return Finding(check=check.name, problem=error.problem, fix=error.fix)
    except CloisterError as error:  # a sentence that ends with what to do
        problem, _, fix = str(error).rpartition("; ")
        return Finding(check=check.name, problem=problem or fix, fix=fix if problem else "")
    return Finding(check=check.name)


def _home(case: _Case) -> None:
    _ = case.home


def _files(case: _Case) -> None:
    folder = case.folder
    for path in (folder, folder / KEYS, *sorted((folder / KEYS).iterdir())):
        if path.stat().st_mode & 0o077:
            mode = 700 if path.is_dir() else 600
            raise _FoundError(
                f"{path} is open to other users of this machine", f"chmod {mode} {path}"
            )


def _disk(case: _Case) -> None:
    free = shutil.disk_usage(case.folder).free
    if free < LEAST_FREE_BYTES:
        raise _FoundError(
            f"only {free / 2**20:,.0f} MiB are free where the node is",
            f"make room: {LEAST_FREE_BYTES // 2**20:,} MiB at least",
        )


def _budget(case: _Case) -> None:
    """Some cohort must be able to pay for one more round like the last that it took part in."""
    header, totals = case.home.totals()
    report = report_budget(header, totals)
    if report.restored:
        return
    left = {one.cohort: one.remaining_micro_rdp for one in report.groups if one.role == "train"}
    fits = {one.cohort: one.rounds_that_fit for one in report.runs if one.role == "train"}
    cohorts = case.home.config.cohorts
    if all(left.get(one, 1) <= 0 or fits.get(one, 1) <= 0 for one in cohorts):
        raise _FoundError(
            "no cohort has privacy budget left for another round like its last",
            "see cloister node budget; new learners belong to a new term of cohorts in node.yaml",
        )


def _joined(case: _Case) -> None:
    case.home.require_coordinator(case.link.key)
    case.home.transport_key()


def _name(case: _Case) -> None:
    link = case.link
    try:
        socket.getaddrinfo(link.host, link.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _FoundError(
            f"the name {link.host} is not known here ({error.strerror})",
            "check this machine's name service; ask the operator whether the name is right",
        ) from error


def _port(case: _Case) -> None:
    link = case.link
    try:
        socket.create_connection((link.host, link.port), _PATIENCE_S).close()
    except OSError as error:
        raise _FoundError(
            f"nothing answers at {link.address} ({error.strerror or 'it took too long'})",
            f"let the firewall through outwards to TCP port {link.port}; ask the operator whether "
            "the coordinator is up",
        ) from error


def _tls(case: _Case) -> None:
    link = case.link
    try:
        with (
            socket.create_connection((link.host, link.port), _PATIENCE_S) as connection,
            link.tls().wrap_socket(connection, server_hostname=link.host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        fix = _CERTIFICATE_FIXES.get(error.verify_code, _STRANGER_FIX)
        raise _FoundError(
            f"{link.address} does not show its certificate: {error.verify_message}", fix
        ) from error
    except OSError as error:
        raise _FoundError(
            f"{link.address} does not speak TLS ({error.strerror or type(error).__name__})",
            "a proxy may stand in between: let the connection through as it is",
        ) from error


def _answer(case: _Case) -> None:
    _ = case.told


def _standing(case: _Case) -> None:
    answer = case.told.answer
    if answer.standing is Standing.PENDING:
        raise _FoundError(
            "the operator has not approved this node yet",
            f"read this node's fingerprint to them by telephone: {case.fingerprint}",
        )
    if answer.standing is Standing.REVOKED:
        raise _FoundError("the operator has shut this node out", "call the operator")


def _clock(case: _Case) -> None:
    at = case.told.at
    ahead = 0.0 if at is None else (datetime.now(UTC) - at).total_seconds()
    if abs(ahead) > MOST_CLOCK_SECONDS:
        raise _FoundError(
            f"this machine's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            "the coordinator's",
            "turn on time synchronization: timedatectl set-ntp true",
        )


def _curriculum(case: _Case) -> None:
    if case.told.answer.curriculum != case.home.curriculum.digest:
        raise _FoundError(
            "the consortium works with another curriculum than this node",
            "make a node in a new folder with a new kit",
        )


def _declared_size(case: _Case) -> None:
    here, there = case.home.config.declared_size, case.told.answer.declared_size
    if here != there:
        raise _FoundError(
            f"node.yaml declares {here} learners, the coordinator was told {there} at the join",
            f"write {there} there again, or join anew with a new kit",
        )


def _release(case: _Case) -> None:
    release = case.told.answer.release
    if release not in case.accepted:
        raise _FoundError(
            f"the coordinator has release {release}, this node takes {', '.join(case.accepted)}",
            "install the coordinator's release here: nodes are upgraded first",
        )


CHECKS = (
    Check("home", _home),
    Check("files", _files, after="home"),
    Check("disk", _disk, after="home"),
    Check("budget", _budget, after="home"),
    Check("joined", _joined, after="home"),
    Check("name", _name, after="joined"),
    Check("port", _port, after="name"),
    Check("tls", _tls, after="port"),
    Check("answer", _answer, after="tls"),
    Check("clock", _clock, after="answer"),
    Check("standing", _standing, after="answer"),
    Check("curriculum", _curriculum, after="answer"),
    Check("declared size", _declared_size, after="answer"),
    Check("release", _release, after="answer"),
)
"""In the order in which they are made."""

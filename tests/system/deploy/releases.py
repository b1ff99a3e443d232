"""Nodes and coordinators of adjacent releases, as far as their bundles tell.

``python -m tests.system.deploy.releases node|runner FOLDER RELEASE``.
"""

import hashlib
import logging
import sys
from pathlib import Path

from cloister_client.fleet.process import take_part
from cloister_client.home import NodeHome
from cloister_server import superlink
from cloister_server.home import CoordinatorHome
from cloister_server.runner import Runner
from cloister_shared.bundles import ACCEPTED, build
from cloister_shared.journal import Journal

BEFORE, THIS, NEXT = "0.0.9", "0.1.0", "0.2.0"
KNOWN = {BEFORE: (BEFORE,), THIS: (BEFORE, THIS), NEXT: (THIS, NEXT)}
"""The releases whose bundles a node of each release takes: its own and the one before."""


def settings(release: str) -> bytes:
    """What the bundle of a release holds."""
    return superlink.BUNDLE.read_bytes().replace(THIS.encode(), release.encode())


def node(folder: Path, release: str) -> None:
    digests = {one: hashlib.sha256(build(settings(one))).hexdigest() for one in KNOWN[release]}
    ACCEPTED.clear()
    ACCEPTED.update(digests)
    take_part(NodeHome.open(folder))


def runner(folder: Path, release: str) -> None:
    home = CoordinatorHome.open(folder)
    bundle = folder / f"bundle-{release}.toml"
    bundle.write_bytes(settings(release))
    vars(superlink)["BUNDLE"] = bundle
    Runner(home, Journal(home.logs / "runner.jsonl")).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    {"node": node, "runner": runner}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])

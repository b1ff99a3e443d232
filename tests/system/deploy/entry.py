"""One process of a consortium: ``python entry.py link|runner|fleet FOLDER``."""

import logging
import sys
from pathlib import Path

from cloister_shared.journal import Event, Journal


def link(folder: Path) -> None:
    from cloister_server.home import CoordinatorHome
    from cloister_server.join_route import join_app
    from cloister_server.link import serve_link

    home = CoordinatorHome.open(folder)
    journal = Journal(home.logs / "link.jsonl")

    def told(reason: str, peer: str, count: int) -> None:
        journal.write(Event.SHUT_OUT, code=reason, node=peer, count=count)

    serve_link(home, join_app(home), told)


def runner(folder: Path) -> None:
    from cloister_server.home import CoordinatorHome
    from cloister_server.runner import Runner

    home = CoordinatorHome.open(folder)
    Runner(home, Journal(home.logs / "runner.jsonl")).run()


def fleet(folder: Path) -> None:
    from cloister_client.fleet.process import take_part
    from cloister_client.home import NodeHome

    take_part(NodeHome.open(folder))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    {"link": link, "runner": runner, "fleet": fleet}[sys.argv[1]](Path(sys.argv[2]))

"""pfl-research, in one process or several that share each cohort.

Several are started the way its guide "Fast distributed simulations" says: one script, told by the
environment which rank it is and where the ranks listen. They sum by torch.distributed (gloo).
"""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

RANK_SCRIPT = Path(__file__).with_name("pfl_research_rank.py")


def main() -> None:
    """Pass the job from stdin to every rank; the answer on stdout is rank 0's."""
    job = sys.stdin.read()
    addresses = _free_addresses(json.loads(job)["processes"])

    def run_rank(rank: int) -> None:
        environment = {**os.environ, "PFL_WORKER_RANK": str(rank)}
        if len(addresses) > 1:
            environment["PFL_WORKER_ADDRESSES"] = ",".join(addresses)
        subprocess.run(  # noqa: S603 - our own script
            [sys.executable, RANK_SCRIPT],
            env=environment,
            input=job,
            text=True,
            check=True,
            stdout=None if rank == 0 else subprocess.DEVNULL,
        )

    with ThreadPoolExecutor(len(addresses)) as pool:
        list(pool.map(run_rank, range(len(addresses))))


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)
        ]
        return [f"localhost:{one.getsockname()[1]}" for one in sockets]


if __name__ == "__main__":
    main()

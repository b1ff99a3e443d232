"""A trainer that hangs while the file ``hang`` is in its home, and else says what it was asked.

``python -m tests.client.fleet.hanging HOME DESCRIPTOR PARENT``.
"""

import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from cloister_client.fleet.trainer import READY, TrainerProcess
from cloister_shared.supervision import end_with

HANG = "hang"


class HangingTrainer(TrainerProcess):
    module = "tests.client.fleet.hanging"


def main(folder: Path, descriptor: int, parent: int) -> None:
    end_with(parent)
    with Connection(descriptor) as pipe:
        pipe.send_bytes(READY)
        while not (folder / HANG).exists():
            _, count = pipe.recv_bytes().decode().split()
            frames = [pipe.recv_bytes() for _ in range(int(count))]
            pipe.send_bytes(frames[0])
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

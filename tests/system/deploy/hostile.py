"""A node of the consortium that means ill: ``python -m tests.system.deploy.hostile HOME``.

What it does to its answers stands in the file ``misdeed`` of its home, one word; nothing if there
is none.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cloister_client.fleet.process import take_part
from cloister_client.fleet.trainer import TrainerProcess
from cloister_client.home import NodeHome
from cloister_shared.journal import Journal
from cloister_shared.messages import Contribution, pack_signed, unpack
from cloister_shared.model_specs import Weights

MISDEED = "misdeed"
TOO_LONG = 65 * 2**20


def with_nan(arrays: Weights) -> Weights:
    return {name: np.full_like(one, np.nan) for name, one in arrays.items()}


def of_another_shape(arrays: Weights) -> Weights:
    return {name: one.reshape(-1)[:-1] for name, one in arrays.items()}


def too_long(arrays: Weights) -> Weights:
    return {name: one * np.float32(1e6) for name, one in arrays.items()}


def of_another_kind(arrays: Weights) -> Weights:
    return {f"recommender{name}": one for name, one in arrays.items()}


ARRAYS: dict[str, Callable[[Weights], Weights]] = {
    "nan": with_nan,
    "shape": of_another_shape,
    "norm": too_long,
    "kind": of_another_kind,
}


class HostileTrainer(TrainerProcess):
    """Answers as the node does, and then as it should not; signed, for it has the node's key."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        super().__init__(folder, journal)
        self._key = NodeHome.open(folder).signing_key()
        self._first = b""

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        answer = super().ask(action, frames, within_s)
        self._first = self._first or answer
        file = self._folder / MISDEED
        return self._turned(file.read_text(), answer) if file.exists() else answer

    def _turned(self, misdeed: str, answer: bytes) -> bytes:
        if misdeed == "garbage":
            return b"\0" * 1000
        if misdeed == "replay":
            return self._first
        if misdeed == "too many bytes":
            return bytes(TOO_LONG)
        header, arrays = unpack(answer, Contribution)
        if misdeed == "name":
            return pack_signed(header.model_copy(update={"node": "elm"}), arrays, self._key)
        if misdeed == "altered":
            signed = pack_signed(header, arrays, self._key)
            return signed[:-1] + bytes([signed[-1] ^ 1])
        return pack_signed(header, ARRAYS[misdeed](arrays), self._key)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    take_part(NodeHome.open(Path(sys.argv[1])), trainer_of=HostileTrainer)

"""What compression still owes of a run: kept from one reply to the next, never sent.

A residual is what rounding left of the vector that a reply was made of: a function of what was
noised and charged, like the reply itself. It belongs to that one reply and is known by the reply's
digest. It is kept before the reply is committed; whoever looks for it names the reply that the
ledger committed last. So what an attempt left that died before its COMMIT is found by nobody, and
each residual is paid once, into the reply that comes next.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from cloister_shared.compression import Arrays, encode_owed
from cloister_shared.durable import SECRET, write_durably
from cloister_shared.errors import LedgerError, MessageError
from cloister_shared.frozen import Frozen
from cloister_shared.messages import join, pack, split, unpack
from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.plan import ModelPlan, Plan

FOLDER = "residuals"
"""Where a node's home has them; no backup needs them."""
_LOG = logging.getLogger(__name__)


class Residuals(Protocol):
    """Residuals by run and by the digest of the reply that left them, as flat arrays."""

    def load(self, run: str, reply: str) -> Arrays:
        """What ``reply`` left; nothing, where that is not known or cannot be read."""

    def keep(self, run: str, reply: str, residual: Arrays, before: str | None) -> None:
        """Keep what ``reply`` left, durably, and of the run's others only that of ``before``.

        Raises ``LedgerError`` if it cannot be kept.
        """

    def forget(self, run: str) -> None:
        """Drop whatever is kept of ``run``."""


def compress(
    deltas: Mapping[str, Weights], owed: Arrays, plan: Plan, number: int
) -> tuple[Arrays, Arrays]:
    """What is sent for ``deltas`` and what is ``owed``, and what is owed from then on; flat."""
    before = split(owed)
    sent: dict[str, Arrays] = {}
    left: dict[str, Arrays] = {}
    for model in plan.active(number):
        kind = model.spec.kind
        due = _fitting(before.get(kind), model)
        sent[kind], left[kind] = encode_owed(deltas[kind], due, model.spec, plan.compression)
    return join(sent), join(left)


def _fitting(residual: Arrays | None, model: ModelPlan) -> Weights | None:
    """The residual, if it is one of this model."""
    if residual is None:
        return None
    try:
        check_weights(residual, model.spec)
    except MessageError as error:
        _LOG.warning("what compression owed is dropped: %s", error)
        return None
    return residual


class MemoryResiduals:
    """Residuals of nodes in memory, for simulations and tests."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Arrays] = {}

    def load(self, run: str, reply: str) -> Arrays:
        """What ``reply`` left."""
        return self._kept.get((run, reply), {})

    def keep(self, run: str, reply: str, residual: Arrays, before: str | None) -> None:
        """Keep what ``reply`` left, and of the run's others only that of ``before``."""
        self._drop(run, (before,))
        self._kept[run, reply] = residual

    def forget(self, run: str) -> None:
        """Drop whatever is kept of ``run``."""
        self._drop(run, ())

    def _drop(self, run: str, but: tuple[str | None, ...]) -> None:
        for name, reply in list(self._kept):
            if name == run and reply not in but:
                del self._kept[name, reply]


class _Residual(Frozen):
    """Heads the file; a file that was moved or cut short is none."""

    type: Literal["residual"] = "residual"
    run: str
    reply: str


class FileResiduals:
    """Residuals in files of ``folder``, which is made when there is one to keep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, run: str, reply: str) -> Arrays:
        """What ``reply`` left; nothing if the file is missing or damaged, it is worth little."""
        path = self._path(run, reply)
        if not path.exists():
            return {}
        try:
            header, arrays = unpack(path.read_bytes(), _Residual)
        except (MessageError, OSError) as error:
            _LOG.warning("what compression owed to run %s is dropped: %s", run, error)
            return {}
        return arrays if (header.run, header.reply) == (run, reply) else {}

    def keep(self, run: str, reply: str, residual: Arrays, before: str | None) -> None:
        """Keep what ``reply`` left, flushed to disk, and of the run's others that of ``before``."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            content = pack(_Residual(run=run, reply=reply), residual)
            write_durably(self._path(run, reply), content, SECRET)
        except OSError as error:
            raise LedgerError(
                f"what compression owes to run {run} cannot be kept ({error.strerror}); nothing is "
                "released without it"
            ) from error
        self._drop(run, (reply, before))

    def forget(self, run: str) -> None:
        """Drop whatever is kept of ``run``."""
        self._drop(run, ())

    def _drop(self, run: str, but: tuple[str | None, ...]) -> None:
        """What cannot be dropped stays: it harms nobody, so no answer is lost for it.

        A digest has no dot, so the first one ends it, whatever the run is called.
        """
        for path in self._folder.glob(f"*.{run}*"):
            digest, _, name = path.name.partition(".")
            if name == f"{run}.partial" or (name == run and digest not in but):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    _LOG.warning("%s cannot be removed: %s", path, error.strerror)

    def _path(self, run: str, reply: str) -> Path:
        return self._folder / f"{reply}.{run}"

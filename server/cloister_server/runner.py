"""The coordinator's runs in one warm process: it does what is wanted, and says what became of it.

The checkpoints are the truth. Flower's own runs are means: those that an earlier runner left are
stopped, and each run of ours that goes on gets a new one. Nodes answer what they were asked before
with the bytes that they sent before.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cloister_server.checkpoint import RoundRecord
from cloister_server.delivery import Courier, publish
from cloister_server.flower import GridExchange, Signer
from cloister_server.grid import Task, TaskLostError, acquire, never
from cloister_server.home import CoordinatorHome
from cloister_server.roll import Roll, approved_names
from cloister_server.rounds import Coordinator
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_server.superlink import Control
from cloister_shared.errors import CloisterError, RunError, ServiceError
from cloister_shared.journal import Event, Journal
from cloister_shared.model_specs import Weights

LOOK_S = 0.5
"""Between two looks for what the operator wants, and for a link that is away."""
_TOLD_AFTER = 20
"""Looks in vain, after which it is told: at its start, a link takes some seconds."""
DELIVER_S = 5.0
"""Between two looks for nodes that have come back without the active models."""
GIVES_WAY_S = 20.0
"""How long a run that is wanted waits for a delivery."""
DELIVERY = "delivery"
"""What Flower's runs are called in which nodes get models."""
_TAKE_S, _TAKE_WITHIN_S = 0.05, 30.0
_LOG = logging.getLogger(__name__)


class _StoppedError(RunError):
    """The operator wants the run to stand still."""


class Runner:
    """Does the runs of ``home``, one after another, until its process ends.

    It may be ended at any time: whoever comes after it resumes.
    """

    def __init__(self, home: CoordinatorHome, journal: Journal) -> None:
        self._home = home
        self._journal = journal
        self._control = Control(home)
        self._roll = Roll(home, self._control)
        self._is_clean = False
        self._deliver_after = 0.0

    def run(self) -> None:
        """Take up what is wanted, for ever."""
        in_vain = 0
        while True:
            try:
                if not self.look():
                    time.sleep(LOOK_S)
                in_vain = 0
            except ServiceError as error:
                in_vain += 1
                if in_vain == _TOLD_AFTER:
                    _LOG.warning("%s", error)
                time.sleep(LOOK_S)

    def look(self) -> bool:
        """Do the next run that is wanted; whether there was one.

        Raises ``ServiceError`` while the link is away.
        """
        if not self._is_clean:
            self._control.stop_runs()
            self._note_stopped()
            self._is_clean = True
        queue = RunFolder.queue(self._home.runs)
        if queue:
            self._do(queue[0])
            self._deliver_after = 0.0
        elif time.monotonic() >= self._deliver_after:
            self._deliver_after = time.monotonic() + DELIVER_S
            self._deliver()
        return bool(queue)

    def _note_stopped(self) -> None:
        """Say so of runs that were stopped while no runner was there."""
        for folder in RunFolder.all(self._home.runs):
            is_left = folder.status.phase is Phase.RUNNING
            if is_left and folder.wanted is Wanted.STOPPED:
                folder.tell(Phase.STOPPED)

    def _deliver(self) -> None:
        """Give the active models to nodes that are there and have not got them yet."""
        courier = Courier(self._home)
        there = approved_names(self._home, self._control.online())
        due = courier.due(there.values())
        if not due:
            return
        try:
            with self.exchange(DELIVERY, self._way_for_runs()) as exchange:
                courier.deliver(exchange, {one: there[one] for one in there if there[one] in due})
        except (TaskLostError, RunError) as error:
            # Whoever did not get them is due once more.
            _LOG.warning("models are delivered later: %s", error)
            self._is_clean = False

    def _way_for_runs(self) -> Callable[[], bool]:
        """Whether a delivery that begins now has lasted long enough, since a run is wanted."""
        end = time.monotonic() + GIVES_WAY_S
        return lambda: time.monotonic() >= end and bool(RunFolder.queue(self._home.runs))

    def _do(self, folder: RunFolder) -> None:
        """What is left of a run; its end, be it good or bad, is written into its folder."""
        try:
            self._rounds(folder)
        except (TaskLostError, ServiceError) as error:
            # Ours to mend: it is still wanted, and taken up again.
            _LOG.warning("run %s goes on later: %s", folder.name, error)
            self._is_clean = False
            time.sleep(LOOK_S)
        except _StoppedError:
            self._end(folder, Phase.STOPPED)
        except CloisterError as error:
            folder.want(Wanted.STOPPED)
            self._end(folder, Phase.FAILED, str(error))
        else:
            folder.want(Wanted.STOPPED)
            self._end(folder, Phase.FINISHED)

    def _rounds(self, folder: RunFolder) -> None:
        state = folder.state()
        plan = state.plan
        folder.tell(Phase.RUNNING)
        self._journal.write(
            Event.RUN_STARTED,
            run=folder.name,
            round=state.round,
            rounds=plan.rounds,
            nodes=len(plan.declared_sizes),
        )
        with self.exchange(folder.name) as exchange:
            Coordinator(
                plan,
                state.weights,
                folder.path,
                observe=lambda record, weights: self._observe(folder, record, weights),
                audit=folder.audit,
                publish=lambda state: publish(self._home, folder, state),
                own_notary=self._home.notary(),
                approved=self._roll.names,
            ).run(exchange)

    @contextmanager
    def exchange(self, name: str, gives_way: Callable[[], bool] = never) -> Iterator[GridExchange]:
        """A way to the nodes, as a run of Flower's that is called ``name``.

        Once it ``gives_way``, waiting for them ends with ``GaveWayError``.
        """
        run = self._control.start_run(name)
        task = _taken(self._home)
        task.grid.gives_way = gives_way
        error = ""
        try:
            yield GridExchange(task.grid, Signer(self._home.signing_key(), self._roll.names))
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            task.finish(error)
            self._clear(run)
            _LOG.info("Flower's run %d is over", run)

    def _clear(self, run: int) -> None:
        """Leave nothing at the link of what was said in a run of Flower's."""
        try:
            self._control.clear(run)
        except ServiceError as away:
            _LOG.info("%s", away)
            self._is_clean = False  # the next look does it

    def _observe(
        self, folder: RunFolder, record: RoundRecord, weights: Mapping[str, Weights]
    ) -> None:
        """Tell of a round that is done; raises ``_StoppedError`` if no more are wanted."""
        del weights
        for name, reason in record.rejected.items():
            self._journal.write(
                Event.REPLY_REFUSED,
                run=folder.name,
                round=record.round,
                code=_word(reason),
                node=_word(name),
            )
        self._journal.write(
            Event.ROUND,
            run=folder.name,
            round=record.round,
            seconds=round(record.seconds, 3),
            replies=len(record.participants),
            refusals=len(record.rejected),
        )
        if folder.wanted is not Wanted.RUNNING:
            raise _StoppedError(f"run {folder.name} was stopped after round {record.round}")

    def _end(self, folder: RunFolder, phase: Phase, reason: str = "") -> None:
        folder.tell(phase, reason)
        self._journal.write(Event.RUN_ENDED, run=folder.name, code=phase.value)
        _LOG.info("run %s: %s %s", folder.name, phase.value, reason)


def _taken(home: CoordinatorHome) -> Task:
    """The task of the run that was just started."""
    end = time.monotonic() + _TAKE_WITHIN_S
    while (task := acquire(home)) is None:
        if time.monotonic() >= end:
            raise ServiceError("the link gave out no task for the run that was started")
        time.sleep(_TAKE_S)
    return task


def _word(text: str) -> str:
    """A reason as the one word that a journal takes."""
    return re.sub(r"[^A-Za-z0-9._:-]+", "_", text.removeprefix("refused: "))[:100] or "unknown"

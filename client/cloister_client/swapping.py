"""A model takes over from an older one: it is tried out, knows every learner, and only then serves.

Until then the older version answers. The work is cut into pieces, so that whoever does it may do
something more urgent between any two, and may end at any moment: the next one begins it anew, and
finds done what was done.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cloister_client.failures import log_failure
from cloister_client.histories import History, Interaction
from cloister_client.personalization.active_models import ranker_of, tracer_of
from cloister_client.personalization.carried_state import current_state
from cloister_client.personalization.tracer import Tracer
from cloister_client.store import ModelVersion, Store
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ServiceError

LEARNERS = 20
"""Learners to whom the new version is introduced in one piece of work."""
TRIED_ANSWERS = 50

Steps = Callable[[], Iterator[None]]
"""Begins some work, which is done piece by piece."""


def try_out(version: ModelVersion, curriculum: Curriculum) -> None:
    """Raise ``ServiceError`` unless the model says something sensible of a made-up learner.

    The learner met the curriculum's first items, half of them with success. What this node serves
    no questions from is not tried.
    """
    history = _made_up(curriculum)
    if version.spec.kind == "dkt":
        tracer = tracer_of(version, curriculum)
        state = tracer.replay(history)
        said = (tracer.mastery(state, history), tracer.success(state, history))
        sensible = all(((one >= 0) & (one <= 1)).all() for one in said)
    elif version.spec.kind == "recommender":
        sensible = bool(np.isfinite(ranker_of(version, curriculum).scores(history.items)).all())
    else:
        return
    if not sensible:
        raise ServiceError("it gives no probabilities for a made-up learner")


def introduce(version: ModelVersion, curriculum: Curriculum, store: Store) -> Iterator[None]:
    """Carry each learner's state on under a version that does not serve yet, if it has states."""
    if version.spec.kind != "dkt":
        return
    tracer = tracer_of(version, curriculum)
    everybody = store.learners("serve")
    for first in range(0, len(everybody), LEARNERS):
        _introduce_some(tracer, version, everybody[first : first + LEARNERS], store)
        yield


def _introduce_some(
    tracer: Tracer, version: ModelVersion, learners: Sequence[str], store: Store
) -> None:
    for learner, history in zip(learners, store.load(learners, "serve"), strict=True):
        current_state(store, tracer, version.version, learner, history)


def at_once(steps: Steps) -> None:
    """Do all of the work now."""
    for _ in steps():
        pass


class Chores:
    """Work that is done while nobody asks for anything else, one piece at a time."""

    def __init__(self) -> None:
        self._asked: Steps | None = None
        self._work: Iterator[None] | None = None

    def put(self, steps: Steps) -> None:
        """Have this done after what is being done; asked for twice, it is done once."""
        self._asked = steps

    def do_one(self) -> bool:
        """Do one piece; whether there was any.

        Work that fails is given up; what failed is in the process's log, without its text.
        """
        if self._work is None and self._asked is not None:
            self._work, self._asked = self._asked(), None
        if self._work is None:
            return False
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        except Exception as error:
            log_failure(error)
            self._work = None
        return True


def _made_up(curriculum: Curriculum) -> History:
    items = curriculum.items[:TRIED_ANSWERS]
    return History.from_interactions(
        [
            Interaction("nobody", item.id, number % 2 == 0, float(number), str(number))
            for number, item in enumerate(items)
        ],
        curriculum,
    )

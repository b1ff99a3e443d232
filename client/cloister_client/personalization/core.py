"""Local personalization: what a learner knows, what to practise, what to do next, and why.

Every face (HTTP first) asks this core. Nothing that it computes leaves the node, and it logs
nothing. The newest active model answers; a state carried under an older version is rebuilt.
"""

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History, Interaction
from cloister_client.personalization.active_models import Active, ActiveModels, required
from cloister_client.personalization.carried_state import current_state
from cloister_client.personalization.learner_store import LearnerStore
from cloister_client.personalization.practice import JUST_ANSWERED, Practice
from cloister_client.personalization.results import (
    LearnerMastery,
    Receipt,
    SkillMastery,
    Suggestions,
)
from cloister_client.personalization.tracer import Tracer
from cloister_client.personalization.wording import Knowledge, Wording
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError


class Personalization:
    """The node's answers about one learner at a time; learners are named by their LMS id.

    A learner without answers, known or not, gets what the models say of a beginner.
    """

    def __init__(self, store: LearnerStore, curriculum: Curriculum) -> None:
        self._store = store
        self._curriculum = curriculum
        self._models = ActiveModels(store, curriculum)
        self._practice = Practice(curriculum)
        self._wording = Wording(curriculum, self._practice)

    def versions(self) -> dict[str, str | None]:
        """The active version of each model kind, None where there is none yet."""
        models = {"dkt": self._models.tracer(), "recommender": self._models.ranker()}
        return {kind: active.version if active else None for kind, active in models.items()}

    def mastery(self, lms_id: str) -> LearnerMastery:
        """Every skill of the curriculum; ``ServiceError`` while no tracer is active."""
        tracer = required(self._models.tracer(), "knowledge tracer")
        known = self._knowledge(tracer, *self._learner(lms_id))
        return LearnerMastery(
            model=tracer.version,
            answers=len(known.history),
            skills=self._wording.masteries(known, range(len(self._curriculum.skills))),
        )

    def next(self, lms_id: str, count: int) -> Suggestions:
        """Exercises that pay most to practise now; ``ServiceError`` while no tracer is active."""
        tracer = required(self._models.tracer(), "knowledge tracer")
        known = self._knowledge(tracer, *self._learner(lms_id))
        chosen = self._practice.choose(known.history, known.mastery, known.success, count)
        just = set(known.history.items[-JUST_ANSWERED:].tolist())
        return Suggestions(
            model=tracer.version,
            answers=len(known.history),
            items=tuple(self._wording.exercise(known, i, i in just) for i in chosen.tolist()),
        )

    def recommendations(self, lms_id: str, count: int) -> Suggestions:
        """The recommender's first items among those that the learner has not met.

        ``ServiceError`` while no recommender is active; predicted success needs a tracer too.
        """
        ranker = required(self._models.ranker(), "recommender")
        tracer = self._models.tracer()
        learner, history = self._learner(lms_id)
        known = self._knowledge(tracer, learner, history) if tracer else None
        chosen = _best_unmet(ranker.model.scores(history.items), history.items, count)
        return Suggestions(
            model=ranker.version,
            answers=len(history),
            items=tuple(
                self._wording.recommendation(history, known, ranker.model, item)
                for item in chosen.tolist()
            ),
        )

    def answer(self, lms_id: str, item: str, correct: bool, when: float, key: str) -> Receipt:
        """Keep an answer and carry the learner's state one step on; needs no model.

        ``when`` is in seconds since 1970 (UTC); the same answer with the same ``key`` again
        changes nothing. An item that the curriculum does not know is a ``DataError``.
        """
        position = self._curriculum.item_index.get(item)
        if position is None:
            raise DataError(f"item {item!r} is not in the curriculum {self._curriculum.name!r}")
        stored = self._store.append(lms_id, Interaction(lms_id, item, correct, when, key))
        return Receipt(stored=stored, skills=self._item_masteries(lms_id, position))

    def _item_masteries(self, lms_id: str, item: int) -> tuple[SkillMastery, ...]:
        tracer = self._models.tracer()
        if tracer is None:
            return ()
        known = self._knowledge(tracer, *self._learner(lms_id))
        skills = self._curriculum.item_skills[item]
        return self._wording.masteries(known, skills[skills >= 0].tolist())

    def _learner(self, lms_id: str) -> tuple[str, History]:
        """Pseudonym and history."""
        learner = self._store.pseudonym(lms_id)
        return learner, self._store.load([learner], purpose="serve")[0]

    def _knowledge(self, tracer: Active[Tracer], learner: str, history: History) -> Knowledge:
        state = current_state(self._store, tracer.model, tracer.version, learner, history)
        model = tracer.model
        return Knowledge(history, model.mastery(state, history), model.success(state, history))


def _best_unmet(
    scores: NDArray[np.float32], met: NDArray[np.int32], count: int
) -> NDArray[np.int64]:
    """Positions of the ``count`` highest scores outside ``met``; ties go by position."""
    unmet = np.ones(len(scores), dtype=bool)
    unmet[met] = False
    candidates = np.flatnonzero(unmet)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:count]]

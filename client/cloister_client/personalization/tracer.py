"""The knowledge tracer in numpy: one LSTM step per answer, no torch.

Same weights and same arithmetic as ``DktSpec`` describes: gates in the order input, forget, cell,
output; c = σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c) (Hochreiter and Schmidhuber 1997, with forget
gates). Everything is float32, so a carried state is bit for bit the state of a replay.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.practice_features import counted_weights, skill_features
from cloister_client.practice_record import ITEM, SKILL, of_items, of_skills
from cloister_shared.errors import DataError
from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.model_specs.dkt import DktSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TracerState:
    """What the tracer carries of one learner: ``h`` and ``c``, (H,) float32 each."""

    h: Floats
    c: Floats

    def to_bytes(self) -> bytes:
        """8·H bytes: h, then c, little-endian."""
        return np.concatenate([self.h, self.c]).astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, blob: bytes) -> "TracerState":
        """Undo :meth:`to_bytes`; a length that is no state's is a ``DataError``."""
        if not blob or len(blob) % 8:
            raise DataError(f"a learner state has 8 bytes per unit, found {len(blob)} bytes")
        h, c = np.frombuffer(blob, dtype="<f4").astype(np.float32).reshape(2, -1)
        return cls(h, c)


class Tracer:
    """DKT with fixed ``weights`` over a catalogue.

    ``item_skills`` (items, m) are the catalogue's skill positions, padded with -1.
    """

    def __init__(self, spec: DktSpec, weights: Weights, item_skills: NDArray[np.int32]) -> None:
        check_weights(weights, spec)
        self._skills, self._hidden = spec.skills, spec.hidden
        # σ(x) = (1 + tanh(x/2))/2: with σ gates halved beforehand (exact in floating point), one
        # tanh serves all four gates and nothing can overflow.
        halves = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype=np.float32), spec.hidden)
        self._input = weights["input"] * halves
        self._recurrent = np.asfortranarray(weights["recurrent"] * halves[:, None])
        self._readout = np.ascontiguousarray(weights["output"][:, :-1])
        self._bias = np.ascontiguousarray(weights["output"][:, -1])
        # Padding points at a logit of zero that is appended to the skills' logits.
        known = item_skills >= 0
        self._item_skills = np.where(known, item_skills, spec.skills).T.copy()
        self._skills_per_item = known.sum(axis=1).astype(np.float32)
        self._item_bias = np.zeros(len(item_skills), dtype=np.float32)
        if spec.items:
            self._item_bias = weights["item_bias"][:, 0].copy()
        self._usual_bias = self._bias_by_skill()
        self._practice: Floats | None = None
        if spec.practice:
            scaled = weights["practice"][0] * np.float32(spec.practice_scale)
            self._practice, constant = counted_weights(scaled)
            self._skill_practice = weights["skill_practice"].reshape(
                -1, spec.skills
            ).T * np.float32(spec.skill_scale)
            self._bias = self._bias + constant

    def initial(self) -> TracerState:
        """The state of a learner without answers: zeros."""
        return TracerState(
            np.zeros(self._hidden, dtype=np.float32), np.zeros(self._hidden, dtype=np.float32)
        )

    def step(self, state: TracerState, skills: Iterable[int], correct: bool) -> TracerState:
        """The state after one more answer; ``skills`` are its skill positions, -1 is padding."""
        rows = [skill + self._skills * correct for skill in skills if skill >= 0]
        entered = self._input[rows[0]] if len(rows) == 1 else self._input[rows].mean(axis=0)
        gates = self._recurrent @ state.h
        gates += entered
        np.tanh(gates, out=gates)
        width = self._hidden
        enter, keep, show = (_sigmoid(gates[gate * width :][:width]) for gate in (0, 1, 3))
        cell = keep * state.c + enter * gates[2 * width : 3 * width]
        return TracerState(show * np.tanh(cell), cell)

    def replay(self, history: History, state: TracerState | None = None) -> TracerState:
        """The state after all answers of ``history``, from ``state`` or from the start."""
        state = state or self.initial()
        rows = zip(history.skills.tolist(), history.correct.tolist(), strict=True)
        for skills, correct in rows:
            state = self.step(state, skills, correct > 0.5)
        return state

    def mastery(self, state: TracerState, history: History) -> Floats:
        """(K,) probabilities that the next answer to each skill, on a usual new item, is right.

        ``history`` is what led to ``state``: a spec with ``practice`` counts its answers.
        """
        return _probability(self._skill_logits(state, history) + self._usual_bias)

    def success(self, state: TracerState, history: History) -> Floats:
        """(items,) probabilities that the next answer to each item of the catalogue is right."""
        logits = np.append(self._skill_logits(state, history), np.float32(0))
        by_item = logits[self._item_skills].sum(axis=0) / self._skills_per_item
        return _probability(by_item + self._item_bias + self._item_practice(history))

    def _skill_logits(self, state: TracerState, history: History) -> Floats:
        logits = self._readout @ state.h + self._bias
        if self._practice is not None:
            counted = of_skills(history, self._skills)
            logits += counted @ self._practice
            logits += (skill_features(counted[:, SKILL]) * self._skill_practice).sum(axis=1)
        return logits

    def _item_practice(self, history: History) -> Floats:
        """(items,) what the learner's answers to the item itself add to its logit."""
        if self._practice is None:
            return np.zeros_like(self._item_bias)
        own = self._practice[ITEM]
        return np.asarray(of_items(history, len(self._item_bias)) @ own)

    def _bias_by_skill(self) -> Floats:
        """(K,) mean bias of the items that need each skill, 0 where none does."""
        skills = self._item_skills.ravel()
        biases = np.tile(self._item_bias, len(self._item_skills))
        total = np.bincount(skills, weights=biases, minlength=self._skills)[: self._skills]
        count = np.bincount(skills, minlength=self._skills)[: self._skills]
        return (total / np.maximum(count, 1)).astype(np.float32)


def _sigmoid(tanh_of_half: Floats) -> Floats:
    return (tanh_of_half + np.float32(1)) * np.float32(0.5)


def _probability(logits: Floats) -> Floats:
    return _sigmoid(np.tanh(logits * np.float32(0.5)))

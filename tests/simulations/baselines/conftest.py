from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.privacy import Budget, KeyedNoise
from cloister_simulations.baselines import Allowance

MakeHistory = Callable[..., History]
MakeAllowance = Callable[..., Allowance]


@pytest.fixture(scope="session")
def curriculum() -> Curriculum:
    """Items i0 to i4 on skills s0, s0, s1, s1, and both."""
    skills = [("s0",), ("s0",), ("s1",), ("s1",), ("s0", "s1")]
    return Curriculum(
        name="tiny",
        skills=(Skill(id="s0"), Skill(id="s1")),
        items=tuple(Item(id=f"i{i}", skills=names) for i, names in enumerate(skills)),
    )


@pytest.fixture(scope="session")
def make_history(curriculum: Curriculum) -> MakeHistory:
    def make(items: Sequence[int], correct: Sequence[int] | None = None) -> History:
        positions = np.array(items, dtype=np.int32)
        right = np.ones(len(items)) if correct is None else correct
        return History(
            items=positions,
            skills=curriculum.item_skills[positions],
            correct=np.array(right, dtype=np.float32),
            when=np.arange(len(items), dtype=np.float64),
        )

    return make


@pytest.fixture(scope="session")
def make_allowance() -> MakeAllowance:
    """What a private baseline may spend, with noise that can be drawn again."""

    def make(epsilon: float = 1.0, learners: int = 100, key: int = 1) -> Allowance:
        budget = Budget(epsilon=epsilon, delta=1e-6)
        return Allowance(budget=budget, share=1.0, learners=learners, noise=KeyedNoise(key))

    return make

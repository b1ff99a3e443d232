"""Deep knowledge tracing: an LSTM over (skill, correct), one logit per skill.

Piech et al., "Deep Knowledge Tracing", NeurIPS 2015, section 3. An answer to an item with several
skills enters as the mean of their input rows; the item's logit is the mean of its skills' logits.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs.base import ModelSpec, Weights

PRACTICE_FEATURES, SKILL_FEATURES = 13, 3
"""What earlier answers say by counting: weighed alike for all skills, and by each skill's own."""


class DktSpec(ModelSpec):
    """DKT with ``hidden`` LSTM units over ``skills`` skills.

    Weights (K skills, H units; gates in the order input, forget, cell, output):

    - ``input``     (2K, 4H): row ``k + K·correct`` is what an answer to skill k adds to the gates.
      Every step adds rows whose weights sum to one, so the rows hold the gates' bias as well.
    - ``recurrent`` (4H, H): gates from the state before.
    - ``output``    (K, H + 1): a skill's read-out row, its bias last.
    - ``item_bias`` (items, 1): added to the item's logit, if ``items`` > 0. How hard an item is
      says more than its skill does: the Rasch part of AKT (Ghosh et al. 2020, section 3.4).
    - ``practice``  (1, 13): weights of the learner's counted practice, if ``practice`` is set: the
      wide part of a wide-and-deep model (Cheng et al. 2016), which little data or much noise leaves
      standing. Their features are multiplied by the public ``practice_scale``: a smaller one leaves
      more of a clipped gradient to the other weights, and makes noise in these weights matter less.
    - ``skill_practice`` (3K, 1), with them: row ``k + K·j`` is skill k's own weight of the j-th of
      three features, which are multiplied by the public ``skill_scale``. One is a constant: with a
      scale above 1 a skill's difficulty is learnt faster than by the read-out's bias alone.
    """

    kind: Literal["dkt"] = "dkt"
    skills: int = Field(ge=1)
    hidden: int = Field(default=32, ge=1)
    items: int = Field(default=0, ge=0)
    practice: bool = False
    practice_scale: float = Field(default=1.0, gt=0)
    skill_scale: float = Field(default=1.0, gt=0)

    @classmethod
    def for_curriculum(cls, curriculum: Curriculum, options: Mapping[str, Any]) -> "DktSpec":
        """One row per skill, and one per item if ``options`` has ``item_bias`` true."""
        free = {name: value for name, value in options.items() if name != "item_bias"}
        items = len(curriculum.items) if options.get("item_bias") else 0
        return cls.model_validate({**free, "skills": len(curriculum.skills), "items": items})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights."""
        shapes: dict[str, tuple[int, ...]] = {
            "input": (2 * self.skills, 4 * self.hidden),
            "recurrent": (4 * self.hidden, self.hidden),
            "output": (self.skills, self.hidden + 1),
        }
        if self.items:
            shapes["item_bias"] = (self.items, 1)
        if self.practice:
            shapes["practice"] = (1, PRACTICE_FEATURES)
            shapes["skill_practice"] = (SKILL_FEATURES * self.skills, 1)
        return shapes

    def initial_weights(self, curriculum: Curriculum, seed: int) -> Weights:
        """Uniform in ±1/√H as ``torch.nn.LSTM``; forget gates start at +1, biases at 0."""
        self.check_curriculum(curriculum)
        random = np.random.default_rng(seed)
        bound = 1 / np.sqrt(self.hidden)
        weights = {
            name: random.uniform(-bound, bound, shape).astype(np.float32)
            for name, shape in self.shapes().items()
        }
        weights["input"][:, self.hidden : 2 * self.hidden] += 1
        weights["output"][:, -1] = 0
        for name in weights.keys() & {"item_bias", "practice", "skill_practice"}:
            weights[name][:] = 0
        return weights

    def check_curriculum(self, curriculum: Curriculum) -> None:
        """One row per skill of the curriculum, and per item if items have a bias."""
        if self.items not in (0, len(curriculum.items)):
            raise ConfigError(
                f"the DKT spec has {self.items} items, the curriculum "
                f"{curriculum.name!r} has {len(curriculum.items)}"
            )
        if self.skills != len(curriculum.skills):
            raise ConfigError(
                f"the DKT spec has {self.skills} skills, the curriculum "
                f"{curriculum.name!r} has {len(curriculum.skills)}"
            )

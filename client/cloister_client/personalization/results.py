"""What personalization answers: the same types for every face (HTTP first) that shows them."""

from typing import Literal

from pydantic import Field

from cloister_shared.frozen import Frozen

Level = Literal["not yet", "learning", "secure"]


class SkillMastery(Frozen):
    """How well a learner knows one skill."""

    skill: str
    name: str
    probability: float = Field(
        ge=0, le=1, description="Probability that the next answer to this skill is right."
    )
    level: Level
    answers: int = Field(ge=0, description="Answers to this skill so far.")
    reason: str


class LearnerMastery(Frozen):
    """Every skill of the curriculum, in its order."""

    model: str = Field(description="Version of the knowledge tracer.")
    answers: int = Field(ge=0, description="Answers of this learner so far.")
    skills: tuple[SkillMastery, ...]


class Suggestion(Frozen):
    """One item for a learner, and why."""

    item: str
    title: str
    text: str
    format: str
    skills: tuple[str, ...]
    success: float | None = Field(
        ge=0, le=1, description="Predicted probability of a right answer; null without a tracer."
    )
    reason: str


class Suggestions(Frozen):
    """Items for a learner, the best first; fewer than asked when no more are suitable."""

    model: str = Field(description="Version of the model that chose.")
    answers: int = Field(ge=0, description="Answers of this learner so far.")
    items: tuple[Suggestion, ...]


class Receipt(Frozen):
    """An answer that the node keeps, and the skills of its item after it."""

    stored: bool = Field(
        description="False when it had been stored before, or its learner was erased."
    )
    skills: tuple[SkillMastery, ...] = Field(description="Empty while no tracer is active.")

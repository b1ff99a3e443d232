"""The addresses of the service; each asks the personalization core one question.

Learner ids are the LMS's, percent-encoded in the path; a slash in one may come encoded or not.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime, Field, StrictBool

from cloister_client.personalization import Personalization
from cloister_client.personalization.results import LearnerMastery, Receipt, Suggestions
from cloister_client.serving.access import require_token
from cloister_client.serving.problems import PROBLEMS
from cloister_shared.frozen import Frozen


class Answer(Frozen):
    """One graded answer; sent again with the same values it changes nothing."""

    item: str = Field(min_length=1, max_length=255, description="The item's id in the curriculum.")
    correct: StrictBool
    when: AwareDatetime = Field(description="When it was answered, with its time zone.")
    key: str = Field(
        min_length=1, max_length=255, description="The LMS's own id of this answer or attempt."
    )


class Health(Frozen):
    """The service answers; ``models`` are the active versions by kind, null where there is none."""

    models: dict[str, str | None]


async def _personalization(request: Request) -> Personalization:
    core: Personalization = request.app.state.personalization
    return core


Core = Annotated[Personalization, Depends(_personalization)]
Learner = Annotated[
    str,
    Path(
        min_length=1,
        max_length=255,
        # U+FFFD stands for bytes that are not UTF-8: several ids would become one.
        pattern="^[^\\x00-\\x1F\\x7F\ufffd]+$",
        description="The LMS's id of the learner.",
    ),
]
Count = Annotated[int, Query(ge=1, le=50, description="How many at most.")]

public = APIRouter(prefix="/v1")
protected = APIRouter(
    prefix="/v1/learners/{learner:path}", dependencies=[Depends(require_token)], responses=PROBLEMS
)


@public.get("/health", operation_id="health")
def health(core: Core) -> Health:
    """Whether the service answers, and from which model versions; needs no token."""
    return Health(models=core.versions())


@protected.get("/mastery", operation_id="mastery")
def mastery(learner: Learner, core: Core) -> LearnerMastery:
    """What the learner knows: every skill, how sure, and why."""
    return core.mastery(learner)


@protected.get("/next", operation_id="next")
def next_exercises(learner: Learner, core: Core, count: Count = 5) -> Suggestions:
    """Exercises to practise now: within reach, prerequisites known, skills interleaved."""
    return core.next(learner, count)


@protected.get("/recommendations", operation_id="recommendations")
def recommendations(learner: Learner, core: Core, count: Count = 5) -> Suggestions:
    """Items that the learner has not met, as the recommender ranks them."""
    return core.recommendations(learner, count)


@protected.post(
    "/interactions",
    operation_id="answer",
    status_code=201,
    responses={
        200: {
            "model": Receipt,
            "description": "Nothing was stored: it is there already, or its learner was erased.",
        }
    },
)
def answer(learner: Learner, core: Core, answer: Answer, response: Response) -> Receipt:
    """Keep a graded answer and bring the learner's state up to it."""
    receipt = core.answer(learner, answer.item, answer.correct, answer.when.timestamp(), answer.key)
    if not receipt.stored:
        response.status_code = 200
    return receipt

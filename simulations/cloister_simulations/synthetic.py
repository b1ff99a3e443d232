"""Synthetic schools: a public curriculum and learners whom nobody ever was.

Every parameter is in :class:`SyntheticSchools`, in logits unless it says otherwise. An answer
follows the two-parameter logistic model (Birnbaum 1968), its ability the power law of practice
(Newell and Rosenbloom 1981) less what is lacking in the skill's prerequisites:

    P(right) = sigmoid(discrimination · (ability - difficulty))
    own(k)   = level of school and group + general ability + deviation(k)
               + gain · log(1 + answers(k))
    ability  = own(k) - prerequisite_weight · mean over prerequisites j of sigmoid(-own(j))

Learners walk through the catalogue, stay with a skill until they have mastered it, and sometimes
begin a session with an earlier skill.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum
from cloister_shared.frozen import Frozen
from cloister_shared.plan import GroupName, check_groups
from cloister_simulations.dataset import Dataset, LearnerRecord
from cloister_simulations.topics import TOPICS

TERM_START = 1_725_235_200.0  # Monday, 2 September 2024, in seconds since 1970
SECONDS_A_DAY = 86_400.0
_GROUPS_STREAM = 1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class School(Frozen):
    """A school: its number of learners, and their mean ability in logits."""

    name: str = Field(min_length=1)
    learners: int = Field(ge=1)
    level: float = 0.0


class LearnerGroup(Frozen):
    """A group of learners in every school: its share of them, and what it adds to their ability."""

    name: GroupName
    share: float = Field(gt=0, le=1)
    level: float = 0.0


class SyntheticSchools(Frozen):
    """What the generator may be told; abilities, difficulties and their spreads are in logits.

    A spread is a standard deviation: of a normal, or of the logarithm of a log-normal where it
    belongs to ``answers`` or ``discrimination`` (whose median is 1).
    """

    schools: tuple[School, ...] = Field(
        default=(
            School(name="oakfield", learners=300, level=0.3),
            School(name="riverside", learners=200),
            School(name="hillcrest", learners=120, level=-0.4),
            School(name="lakeview", learners=60, level=0.1),
        ),
        min_length=1,
    )
    groups: tuple[LearnerGroup, ...] = ()
    """Learners beyond their shares are in none."""
    skills: int = Field(default=24, ge=2, le=len(TOPICS), description="topics, in taught order")
    items_per_skill: int = Field(default=10, ge=2)
    answers_per_learner: float = Field(default=60, ge=2, description="mean number")
    answers_spread: float = Field(default=0.6, ge=0)
    ability_spread: float = Field(default=0.8, ge=0, description="between learners of a school")
    skill_spread: float = Field(default=0.7, ge=0, description="between the skills of a learner")
    mean_difficulty: float = -0.4
    difficulty_spread: float = Field(default=0.9, ge=0, description="rises within a skill")
    discrimination_spread: float = Field(default=0.25, ge=0)
    practice_gain: float = Field(default=0.35, ge=0, description="per unit of log(1 + answers)")
    prerequisite_weight: float = Field(default=1.0, ge=0)
    mastery_streak: int = Field(default=3, ge=1, description="right answers that end a skill")
    skip_share: float = Field(default=0.25, ge=0, lt=1, description="of items passed over")
    revisit_share: float = Field(default=0.3, ge=0, le=1, description="of sessions")
    session_answers: float = Field(default=12, ge=1, description="mean number")
    session_gap_days: float = Field(default=3, ge=0, description="mean")
    answer_seconds: float = Field(default=45, gt=0, description="mean")

    @model_validator(mode="after")
    def _check(self) -> "SyntheticSchools":
        names = [school.name for school in self.schools]
        if len(set(names)) < len(names):
            raise ValueError("each school stands once")
        check_groups(tuple(group.name for group in self.groups))
        if sum(group.share for group in self.groups) > 1 + 1e-9:
            raise ValueError("the groups' shares add up to more than 1")
        return self


def generate(config: SyntheticSchools, seed: int) -> Dataset:
    """The schools' learners, school by school; the same config and seed give the same data."""
    random = np.random.default_rng(seed)
    curriculum = synthetic_curriculum(config)
    homes = [school.name for school in config.schools for _ in range(school.learners)]
    groups = _groups(config, len(homes), seed)
    histories = _histories(config, curriculum, groups, random)
    return Dataset(
        name="synthetic",
        curriculum=curriculum,
        learners=tuple(
            LearnerRecord(
                key=f"{home}-{number}",
                history=history,
                institution=home,
                group=None if group is None else group.name,
            )
            for number, (home, history, group) in enumerate(
                zip(homes, histories, groups, strict=True), start=1
            )
        ),
    )


def synthetic_curriculum(config: SyntheticSchools) -> Curriculum:
    """The first ``skills`` topics and their exercises; it depends on no seed."""
    topics = TOPICS[: config.skills]
    return Curriculum(
        name="synthetic-mathematics",
        skills=tuple(topic.skill() for topic in topics),
        items=tuple(item for topic in topics for item in topic.items(config.items_per_skill)),
    )


def _groups(config: SyntheticSchools, learners: int, seed: int) -> list[LearnerGroup | None]:
    """The group of each learner, drawn apart: all else is the same with groups and without."""
    ends = np.cumsum([group.share for group in config.groups])
    draws = np.random.default_rng([seed, _GROUPS_STREAM]).random(learners)
    places = np.searchsorted(ends, draws, side="right")
    return [config.groups[place] if place < len(ends) else None for place in places]


def _histories(
    config: SyntheticSchools,
    curriculum: Curriculum,
    groups: Sequence[LearnerGroup | None],
    random: np.random.Generator,
) -> list[History]:
    """All learners take one step at a time, together, until each has their number of answers."""
    counts = _answer_counts(config, random)
    knowledge = _Knowledge(config, curriculum, groups, random)
    walk = _Walk(config, len(counts), random)
    steps = []
    for step in range(counts.max()):
        who = np.flatnonzero(counts > step)
        items, when = walk.step(who)
        correct = random.random(len(who)) < knowledge.chance(who, items)
        knowledge.practise(who, items)
        walk.answered(who, correct)
        steps.append((who, items, correct, when))
    who, items, correct, when = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    order = np.argsort(who, kind="stable")
    whole = History(
        items=items[order].astype(np.int32),
        skills=curriculum.item_skills[items[order]],
        correct=correct[order].astype(np.float32),
        when=when[order],
    )
    ends = np.cumsum(counts)
    return [whole[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _answer_counts(config: SyntheticSchools, random: np.random.Generator) -> Ints:
    """(learners,) log-normal numbers of answers with the mean asked for, at least 2."""
    spread = config.answers_spread
    learners = sum(school.learners for school in config.schools)
    log_mean = np.log(config.answers_per_learner) - spread**2 / 2
    return np.maximum(2, random.lognormal(log_mean, spread, learners).round()).astype(np.int64)


class _Knowledge:
    """What everybody can do: the answer model of the module's docstring."""

    def __init__(
        self,
        config: SyntheticSchools,
        curriculum: Curriculum,
        groups: Sequence[LearnerGroup | None],
        random: np.random.Generator,
    ) -> None:
        levels = np.repeat(
            [school.level for school in config.schools],
            [school.learners for school in config.schools],
        ) + np.array([group.level if group else 0.0 for group in groups])
        shape = (config.skills, config.items_per_skill)
        general = levels + random.normal(0, config.ability_spread, len(levels))
        self._config = config
        self._start = general[:, np.newaxis] + random.normal(
            0, config.skill_spread, (len(levels), config.skills)
        )
        self._answers = np.zeros_like(self._start)
        difficulty = random.normal(config.mean_difficulty, config.difficulty_spread, shape)
        self._difficulty = np.sort(difficulty, axis=1).ravel()
        self._discrimination = random.lognormal(0, config.discrimination_spread, shape).ravel()
        self._prerequisites = _prerequisite_shares(curriculum)

    def chance(self, who: Ints, items: Ints) -> Floats:
        """(who,) probabilities of a right answer of ``who`` to ``items``."""
        skills = items // self._config.items_per_skill
        own = self._start[who] + self._config.practice_gain * np.log1p(self._answers[who])
        lacking = (self._prerequisites[skills] * _sigmoid(-own)).sum(axis=1)
        ability = own[np.arange(len(who)), skills] - self._config.prerequisite_weight * lacking
        return _sigmoid(self._discrimination[items] * (ability - self._difficulty[items]))

    def practise(self, who: Ints, items: Ints) -> None:
        """An answer, right or wrong, is practice."""
        self._answers[who, items // self._config.items_per_skill] += 1


class _Walk:
    """Where everybody stands in the catalogue, and when they answer."""

    def __init__(
        self, config: SyntheticSchools, learners: int, random: np.random.Generator
    ) -> None:
        self._config = config
        self._random = random
        self._first = random.integers(0, (config.skills + 1) // 2, learners)
        self._course = self._first.copy()  # the skill that the way through the catalogue is at
        self._skill = self._first.copy()  # the skill at work, an earlier one in a revisit
        self._next = np.zeros((learners, config.skills), dtype=np.int64)
        self._streak = np.zeros(learners, dtype=np.int64)
        self._clock = TERM_START + random.uniform(0, SECONDS_A_DAY, learners)

    def step(self, who: Ints) -> tuple[Ints, Floats]:
        """(who,) the next items, and when they are answered."""
        size = self._config.items_per_skill
        begins = self._random.random(len(who)) < 1 / self._config.session_answers
        self._clock[who] += self._pauses(begins)
        self._begin_sessions(who[begins])
        skipped = self._random.geometric(1 - self._config.skip_share, len(who)) - 1
        place = self._next[who, self._skill[who]] + skipped
        self._next[who, self._skill[who]] = place + 1
        return self._skill[who] * size + place % size, self._clock[who]

    def answered(self, who: Ints, correct: NDArray[np.bool_]) -> None:
        """Go on to the next skill after mastery, or after the skill's last item."""
        self._streak[who] = np.where(correct, self._streak[who] + 1, 0)
        used_up = self._next[who, self._skill[who]] >= self._config.items_per_skill
        done = who[used_up | (self._streak[who] >= self._config.mastery_streak)]
        on_course = done[self._skill[done] == self._course[done]]
        self._course[on_course] = (self._course[on_course] + 1) % self._config.skills
        self._skill[done] = self._course[done]
        self._streak[done] = 0

    def _begin_sessions(self, who: Ints) -> None:
        """Some sessions begin with a skill that came earlier on the way."""
        revisits = self._random.random(len(who)) < self._config.revisit_share
        past = (self._course[who] - self._first[who]) % self._config.skills
        back = (self._random.random(len(who)) * past).astype(np.int64)
        earlier = (self._first[who] + back) % self._config.skills
        self._skill[who] = np.where(revisits, earlier, self._course[who])
        self._streak[who] = 0

    def _pauses(self, begins: NDArray[np.bool_]) -> Floats:
        """Seconds since the answer before: of a session, or of the days between two."""
        seconds = self._random.exponential(self._config.answer_seconds, len(begins))
        days = self._random.exponential(self._config.session_gap_days, len(begins))
        return seconds + np.where(begins, days * SECONDS_A_DAY, 0)


def _prerequisite_shares(curriculum: Curriculum) -> Floats:
    """(skills, skills): row k has 1/m at each of the m prerequisites of k."""
    shares = np.zeros((len(curriculum.skills), len(curriculum.skills)))
    for row, skill in zip(shares, curriculum.skills, strict=True):
        row[_positions(curriculum, skill.prerequisites)] = 1 / max(1, len(skill.prerequisites))
    return shares


def _positions(curriculum: Curriculum, skills: Sequence[str]) -> list[int]:
    return [curriculum.skill_index[skill] for skill in skills]


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))

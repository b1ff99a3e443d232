"""The public vocabulary: skills, items, which skills an item needs, prerequisites, texts.

A curriculum is never derived from learners' data. Positions in ``skills`` and ``items`` are the
indices that models use, so a new version only ever appends.
"""

import json
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from cloister_shared.canonical import digest
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen, describe


class Skill(Frozen):
    """A knowledge component; ``prerequisites`` are ids of skills to be known before."""

    id: str = Field(min_length=1)
    name: str = ""
    prerequisites: tuple[str, ...] = ()


class Item(Frozen):
    """An exercise or resource and the skills it needs."""

    id: str = Field(min_length=1)
    skills: tuple[str, ...] = Field(min_length=1)
    title: str = ""
    format: str = "exercise"
    text: str = ""


class Curriculum(Frozen):
    """Skills and items in their public order; that order is the catalogue's."""

    name: str = Field(min_length=1)
    version: int = Field(default=1, ge=1)
    skills: tuple[Skill, ...] = Field(min_length=1)
    items: tuple[Item, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_references(self) -> "Curriculum":
        skills = {skill.id for skill in self.skills}
        problems = [
            *_repeated("skill", [skill.id for skill in self.skills]),
            *_repeated("item", [item.id for item in self.items]),
            *(
                f"item {item.id!r} names a skill twice"
                for item in self.items
                if len(set(item.skills)) < len(item.skills)
            ),
            *(
                f"item {item.id!r} needs the unknown skill {skill!r}"
                for item in self.items
                for skill in item.skills
                if skill not in skills
            ),
            *(
                f"skill {skill.id!r} has the unknown prerequisite {before!r}"
                for skill in self.skills
                for before in skill.prerequisites
                if before not in skills
            ),
        ]
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise ValueError("; ".join(problems[:5]) + more)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curriculum) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the whole curriculum."""
        return digest(self.model_dump(mode="json"))

    @cached_property
    def skill_index(self) -> dict[str, int]:
        """Position of each skill by id."""
        return {skill.id: position for position, skill in enumerate(self.skills)}

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Position of each item by id."""
        return {item.id: position for position, item in enumerate(self.items)}

    @cached_property
    def item_skills(self) -> NDArray[np.int32]:
        """(items, most skills of an item) skill positions, padded with -1: the Q-matrix."""
        width = max(len(item.skills) for item in self.items)
        table = np.full((len(self.items), width), -1, dtype=np.int32)
        for row, item in zip(table, self.items, strict=True):
            row[: len(item.skills)] = [self.skill_index[skill] for skill in item.skills]
        return table

    def save(self, path: Path) -> None:
        """Write the curriculum as indented JSON."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def load_curriculum(path: Path) -> Curriculum:
    """Read a curriculum file; raises ``ConfigError`` with all its mistakes in one sentence."""
    try:
        return Curriculum.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the curriculum {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path} is not a curriculum: {describe(error)}") from error


def _repeated(what: str, ids: list[str]) -> list[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for one in ids:
        (twice if one in seen else seen).add(one)
    return [f"{what} {one!r} stands twice" for one in sorted(twice)]

"""The public vocabulary refuses what cannot be meant, and its digest says when it changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cloister_shared.curriculum import Curriculum, load_curriculum
from cloister_shared.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "name": "fractions",
    "version": 2,
    "skills": [{"id": "add"}, {"id": "mul", "prerequisites": ["add"]}, {"id": "mix"}],
    "items": [
        {"id": "i1", "skills": ["add"]},
        {"id": "i2", "skills": ["mul", "mix"], "title": "Häufig"},
        {"id": "i3", "skills": ["mix"]},
    ],
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(DOCUMENT)), **fields}


def test_positions_follow_the_catalogue() -> None:
    curriculum = Curriculum.model_validate(DOCUMENT)
    assert curriculum.skill_index == {"add": 0, "mul": 1, "mix": 2}
    assert curriculum.item_index == {"i1": 0, "i2": 1, "i3": 2}
    np.testing.assert_array_equal(curriculum.item_skills, [[0, -1], [1, 2], [2, -1]])


@pytest.mark.parametrize(
    ("document", "mistake"),
    [
        (changed(items=[{"id": "i", "skills": ["div"]}]), "item 'i' needs the unknown skill 'div'"),
        (
            changed(skills=[*DOCUMENT["skills"], {"id": "x", "prerequisites": ["y"]}]),
            "skill 'x' has the unknown prerequisite 'y'",
        ),
        (changed(skills=[*DOCUMENT["skills"], {"id": "add"}]), "skill 'add' stands twice"),
        (changed(items=[*DOCUMENT["items"], DOCUMENT["items"][0]]), "item 'i1' stands twice"),
        (changed(items=[{"id": "i", "skills": []}]), "items.0.skills"),
        (changed(items=[]), "items"),
        (changed(skills=[]), "skills"),
        (changed(name=""), "name"),
        (changed(version=0), "version"),
        (changed(learners=30), "learners"),
    ],
)
def test_a_mistake_is_named(document: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Curriculum.model_validate(document)
    assert mistake in str(caught.value)


def test_many_mistakes_are_told_as_five_and_a_number() -> None:
    items = [{"id": str(number), "skills": ["none"]} for number in range(12)]
    with pytest.raises(ValidationError, match="and 7 more"):
        Curriculum.model_validate(changed(items=items))


def test_the_digest_is_stable_over_a_file(tmp_path: Path) -> None:
    curriculum = Curriculum.model_validate(DOCUMENT)
    path = tmp_path / "curriculum.json"
    curriculum.save(path)
    assert load_curriculum(path) == curriculum
    assert load_curriculum(path).digest == curriculum.digest
    shuffled = dict(reversed(DOCUMENT.items()))
    assert Curriculum.model_validate(shuffled).digest == curriculum.digest


@pytest.mark.parametrize(
    "document",
    [
        changed(name="other"),
        changed(version=3),
        changed(skills=[*DOCUMENT["skills"], {"id": "new"}]),
        changed(items=DOCUMENT["items"][::-1]),
        changed(items=[{**DOCUMENT["items"][0], "text": "1 + 1"}, *DOCUMENT["items"][1:]]),
        changed(skills=[{"id": "add", "name": "Adding"}, *DOCUMENT["skills"][1:]]),
    ],
)
def test_every_change_changes_the_digest(document: dict[str, Any]) -> None:
    before = Curriculum.model_validate(DOCUMENT).digest
    assert Curriculum.model_validate(document).digest != before


def test_a_file_that_is_missing_or_no_curriculum_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "curriculum.json"
    with pytest.raises(ConfigError, match="cannot read the curriculum"):
        load_curriculum(path)
    for content in (b"", b"[]", b"\xff\xfe", b'{"name": "x"}', b"{"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is not a curriculum"):
            load_curriculum(path)

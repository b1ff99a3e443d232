"""A researcher's own answers: one CSV file, read by the reader that institutions use.

The folder holds ``interactions.csv`` (or ``.csv.gz``), ``columns.json`` (a :class:`TidyColumns`)
and, unless the file's own vocabulary may serve as one, ``curriculum.json``.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from cloister_client.histories import History, Interaction
from cloister_client.importing.csv_table import ColumnMap, read_csv
from cloister_client.importing.table import bad_line, read_rows
from cloister_shared.curriculum import Curriculum, Item, Skill, load_curriculum
from cloister_shared.errors import ConfigError, DataError
from cloister_shared.frozen import describe
from cloister_simulations.dataset import Dataset, LearnerRecord


class TidyColumns(ColumnMap):
    """The columns of an import, and those of a learner's institution and whole-number fold."""

    institution: str | None = None
    fold: str | None = None


def read(directory: Path) -> Dataset:
    """The data set in ``directory``, named after it; learners in order of appearance.

    A learner with two institutions or folds is a ``DataError``: every learner has one home.
    """
    columns = _columns(directory / "columns.json")
    path = next(iter(sorted(directory.glob("interactions.csv*"))), directory / "interactions.csv")
    answers: defaultdict[str, list[Interaction]] = defaultdict(list)
    for answer in read_csv(path, columns):
        answers[answer.learner].append(answer)
    curriculum = _curriculum(directory, [one for own in answers.values() for one in own])
    institutions = _one_per_learner(path, columns.learner, columns.institution)
    folds = _one_per_learner(path, columns.learner, columns.fold)
    return Dataset(
        name=directory.name,
        curriculum=curriculum,
        learners=tuple(
            LearnerRecord(
                key=learner,
                history=_history(own, curriculum),
                institution=institutions.get(learner),
                fold=_whole_number(path, folds.get(learner)),
            )
            for learner, own in answers.items()
        ),
    )


def _columns(path: Path) -> TidyColumns:
    try:
        return TidyColumns.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the columns {path}: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path} does not name columns: {describe(error)}") from error


def _history(answers: Iterable[Interaction], curriculum: Curriculum) -> History:
    return History.from_interactions(sorted(answers, key=lambda one: one.when), curriculum)


def _curriculum(directory: Path, answers: Sequence[Interaction]) -> Curriculum:
    """The folder's curriculum, else the items and skills of the file by id."""
    path = directory / "curriculum.json"
    if path.exists():
        return load_curriculum(path)
    skills_of: defaultdict[str, set[str]] = defaultdict(set)
    for answer in answers:
        skills_of[answer.item].update(answer.skills)
    if not skills_of or not all(skills_of.values()):
        raise DataError(f"{directory} has items without a skill: put a curriculum.json there")
    skills = sorted(set().union(*skills_of.values()))
    return Curriculum(
        name=directory.name,
        skills=tuple(Skill(id=skill, name=skill) for skill in skills),
        items=tuple(
            Item(id=item, skills=tuple(sorted(skills_of[item]))) for item in sorted(skills_of)
        ),
    )


def _one_per_learner(path: Path, learner: str, column: str | None) -> dict[str, str]:
    """Each learner's cell of ``column``; learners with an empty one are left out."""
    values: dict[str, str] = {}
    if column is None:
        return values
    for line, (who, value) in read_rows(path, [learner, column]):
        if value and values.setdefault(who, value) != value:
            raise bad_line(path, line, f"the learner had another {column} before")
    return values


def _whole_number(path: Path, cell: str | None) -> int | None:
    try:
        return None if cell is None else int(cell)
    except ValueError as error:
        raise DataError(f"{path.name}: a fold is not a whole number") from error

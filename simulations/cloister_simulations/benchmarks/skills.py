"""The curriculum of benchmarks that need nothing but skills."""

from cloister_shared.curriculum import Curriculum, Item, Skill


def curriculum_of(skills: int) -> Curriculum:
    """``skills`` skills with one item each."""
    names = [f"skill-{number}" for number in range(skills)]
    return Curriculum(
        name="benchmark",
        skills=tuple(Skill(id=name) for name in names),
        items=tuple(Item(id=f"item-{name}", skills=(name,)) for name in names),
    )

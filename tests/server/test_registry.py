"""Model versions are immutable and signed; what is served is a choice that can be taken back."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister_server.checkpoint import RoundRecord, RunState
from cloister_server.registry import Choice, Lineage, Registry
from cloister_shared.canonical import digest
from cloister_shared.errors import ConfigError, PolicyError
from cloister_shared.model_manifest import Manifest, pseudonym
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.signing import SigningKey

from .conftest import CURRICULUM, key_of

KEY = SigningKey.generate()


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    (tmp_path / "audit.json").write_text("{}")
    keys = {name: key_of(name).public for name in ("north", "south", "west")}
    return Lineage(delta=1e-5, keys=keys, parents={}, audit=tmp_path / "audit.json")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry", KEY, CURRICULUM)


@pytest.fixture
def made(registry, lineage, plan, weights) -> Manifest:
    """A kept tracer."""
    return registry.add(finished(plan, weights), lineage)[0]


def finished(plan: Plan, weights: dict[str, Weights], run: str = "autumn") -> RunState:
    """A run in which the north took part in both rounds, the west in none."""
    records = [
        RoundRecord(
            round=number,
            seconds=1.0,
            bytes_down=1,
            bytes_up=1,
            participants=names,
            rejected={},
        )
        for number, names in ((1, ("north", "south")), (2, ("north",)))
    ]
    named = Plan.model_validate({**plan.model_dump(mode="json"), "run": run})
    return RunState(named, weights, round=2, records=records)


def test_a_version_says_where_it_comes_from(registry, lineage, plan, weights) -> None:
    state = finished(plan, weights)
    made = registry.add(state, replace(lineage, parents={"dkt": "a" * 64}))
    assert [one.kind for one in made] == ["dkt", "recommender"]
    tracer = registry.get(made[0].version).manifest
    assert (tracer.run, tracer.plan, tracer.round) == ("autumn", state.plan.digest, 2)
    assert tracer.participants == tuple(
        pseudonym(key_of(name).public) for name in ("north", "south")
    )
    assert tracer.parent == "a" * 64
    assert tracer.audit is not None
    assert 0 < tracer.claim.epsilon_pld < tracer.claim.epsilon
    assert made[1].parent is None


def test_a_run_that_is_kept_again_changes_nothing(registry, lineage, plan, weights) -> None:
    made = registry.add(finished(plan, weights), lineage)
    assert registry.add(finished(plan, weights), lineage) == made
    assert [one.manifest for one in registry.versions()] == list(made)


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_version_altered_by_one_bit_is_refused(
    registry, made: Manifest, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / "registry" / "versions" / f"{made.version}.{suffix}"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        registry.promote([made.version])
    assert registry.active() is None


def test_a_version_that_somebody_else_signed_is_refused(lineage, plan, weights, tmp_path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = Registry(tmp_path / "theirs", SigningKey.generate(), CURRICULUM)
    made = theirs.add(finished(plan, weights), lineage)[0]
    with pytest.raises(ConfigError, match="altered"):
        Registry(tmp_path / "theirs", KEY, CURRICULUM).get(made.version)


def test_a_manifest_does_not_fit_other_weights(registry, made: Manifest, weights) -> None:
    other = {name: array + 1 for name, array in weights["dkt"].items()}
    with pytest.raises(PolicyError, match="not those that were signed"):
        registry.get(made.version).signed.check(other, KEY.public)


def test_promotions_and_rollbacks_change_what_is_served_and_nothing_else(
    registry, lineage, plan, weights, tmp_path: Path
) -> None:
    first = registry.add(finished(plan, weights), lineage)
    second = registry.add(finished(plan, weights, run="winter"), lineage)
    files = {file: file.read_bytes() for file in (tmp_path / "registry/versions").iterdir()}
    registry.promote(one.version for one in first)
    assert registry.promote([second[0].version]).models == {
        "dkt": second[0].version,
        "recommender": first[1].version,
    }
    assert registry.rollback().models == {one.kind: one.version for one in first}
    assert {file: file.read_bytes() for file in (tmp_path / "registry/versions").iterdir()} == files


def test_every_choice_has_a_higher_serial_than_all_before_it(
    registry, lineage, plan, weights
) -> None:
    began = int(time.time())
    first = registry.add(finished(plan, weights), lineage)[0].version
    second = registry.add(finished(plan, weights, run="winter"), lineage)[0].version
    chosen = [
        registry.promote([first]),
        registry.promote([second]),
        registry.promote([second]),
        registry.rollback(),
    ]
    serials = [one.serial for one in chosen]
    assert serials == sorted(set(serials))
    assert serials[0] >= began, "one put back from a backup is ahead of what it has forgotten"
    assert [one.models["dkt"] for one in chosen] == [first, second, second, first]


def test_a_clock_that_goes_back_makes_no_serial_lower() -> None:
    ahead = Choice(since=datetime.now(UTC), serial=2**40, models={})
    assert Choice.after(ahead, {}).serial == 2**40 + 1


def test_there_is_nothing_before_the_first_promotion(registry, lineage, plan, weights) -> None:
    with pytest.raises(ConfigError, match="nothing to go back to"):
        registry.rollback()
    registry.promote(one.version for one in registry.add(finished(plan, weights), lineage))
    with pytest.raises(ConfigError, match="nothing to go back to"):
        registry.rollback()


def test_one_version_of_a_kind_is_promoted(registry, lineage, plan, weights) -> None:
    first = registry.add(finished(plan, weights), lineage)[0]
    second = registry.add(finished(plan, weights, run="winter"), lineage)[0]
    with pytest.raises(ConfigError, match="two versions of dkt"):
        registry.promote([first.version, second.version])


def test_a_version_is_found_by_its_first_digits(registry, made: Manifest) -> None:
    assert registry.get(made.version[:8]).manifest == made
    for name in (made.version[:3], digest("another")):
        with pytest.raises(ConfigError, match="no model version begins"):
            registry.get(name)


def test_a_model_of_another_curriculum_is_not_promoted(registry, lineage, plan, weights) -> None:
    other = Plan.model_validate({**plan.model_dump(mode="json"), "curriculum": "f" * 64})
    made = registry.add(finished(other, weights), lineage)[0]
    with pytest.raises(ConfigError, match="another curriculum"):
        registry.promote([made.version])


def test_without_noise_nothing_is_claimed(registry, lineage, plan, weights) -> None:
    document = plan.model_dump(mode="json")
    for model in document["models"]:
        model["mechanism"]["noise_multiplier"] = 0
    made = registry.add(finished(Plan.model_validate(document), weights), lineage)[0]
    assert (made.claim, made.audit) == (None, None)

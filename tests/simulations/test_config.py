"""Simulation configs: the examples are valid, and every mistake is named at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from cloister_client.config import NodeConfig
from cloister_client.importing import ColumnMap, read
from cloister_server.config import CoordinatorConfig
from cloister_server.orders import RunOrder
from cloister_shared.curriculum import load_curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.yaml_config import load_yaml
from cloister_simulations.config import FolderData, PublicData, SimulationConfig, load_config
from cloister_simulations.readers import READERS as READERS_OF_DATA
from cloister_simulations.synthetic import SyntheticSchools

CONFIGS = Path(__file__).parents[2] / "configs"
COLUMNS = ColumnMap(learner="student", item="question", correct="right", when="answered_at")
READERS: dict[str, Callable[[Path], object]] = {
    "simulation": load_config,
    "node": lambda path: load_yaml(path, NodeConfig),
    "coordinator": lambda path: load_yaml(path, CoordinatorConfig),
    "runs": lambda path: load_yaml(path, RunOrder),
    "curriculum": load_curriculum,
    "examples": lambda path: list(read(path, "csv", COLUMNS)),
}
"""How the files of each folder of configs/ are read."""

Mistake = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CONFIGS.rglob("*")) if path.is_file()],
    ids=lambda path: str(path.relative_to(CONFIGS)),
)
def test_every_file_in_configs_is_valid(path: Path) -> None:
    assert READERS[path.relative_to(CONFIGS).parts[0]](path)


@pytest.fixture
def load(tmp_path: Path, make_config: Callable[..., SimulationConfig]) -> Callable[..., object]:
    """Load the tiny config with mistakes made in it."""

    def load_with(*mistakes: Mistake) -> SimulationConfig:
        document = make_config().model_dump(mode="json")
        for mistake in mistakes:
            mistake(document)
        path = tmp_path / "simulation.yaml"
        path.write_text(yaml.safe_dump(document))
        return load_config(path)

    return load_with


def _private(document: dict[str, Any], **settings: Any) -> None:
    document["models"][0]["private"].update(settings)


def _budget(document: dict[str, Any], **settings: Any) -> None:
    document["privacy"]["budget"].update(settings)


def _second_model(document: dict[str, Any], **settings: Any) -> None:
    document["models"].append({**document["models"][0], "kind": "recommender", **settings})


def test_a_config_is_the_same_after_it_was_written_and_read(
    load: Callable[..., object], make_config: Callable[..., SimulationConfig]
) -> None:
    assert load() == make_config()


def test_three_mistakes_are_told_in_one_sentence(load: Callable[..., object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            lambda document: _budget(document, epsilon=0),
            lambda document: _private(document, sampling_rate=1.5),
            lambda document: document.update(colour="blue"),
        )
    message = str(caught.value)
    assert "\n" not in message
    for place in ("privacy.budget.epsilon", "models.0.private.sampling_rate", "colour"):
        assert f" {place}: " in message
    assert message.count(": ") == 1 + 3, "the file and three mistakes, nothing that follows of them"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda document: _budget(document, epsilon=-1), "epsilon: Input should be greater than 0"),
        (lambda document: _budget(document, epsilon=float("inf")), "epsilon: .*finite"),
        (lambda document: _budget(document, delta=1.0), "delta: Input should be less than 1"),
        (lambda document: _private(document, noise_multiplier=float("nan")), "finite number"),
        (
            lambda document: _private(document, noise_multiplier=0),
            "noise_multiplier: .* greater",
        ),
        (lambda document: _private(document, rounds=0), "rounds: .* greater than or equal to 1"),
        (lambda document: _private(document, clip=1), "private.clip: Extra inputs are not perm"),
        (lambda document: document.update(models=[]), "at least one model"),
        (lambda document: _second_model(document, budget_share=0.6), "add up to more than 1"),
        (lambda document: _second_model(document, kind="dkt"), "each model kind stands once"),
        (lambda document: _second_model(document, kind="sakt"), "'sakt'; known: dkt, recommender"),
        (lambda document: document.update(backend="ray"), "the ray backend needs storage: disk"),
        (
            lambda document: document.update(together=True, compression="int8"),
            "send nothing to compress",
        ),
        (lambda document: document.update(arms=["pooled", "pooled"]), "each arm stands once"),
        (lambda document: document.update(arms=["pooled", "alone"]), "arms.1: Input should be"),
        (lambda document: document.update(name="../tiny"), "name: String should match"),
        (lambda document: document.update(name=".."), "name: String should match"),
        (lambda document: document.update(data={"source": "mooc"}), "data: .*'mooc'"),
    ],
)
def test_what_cannot_be_is_refused(
    load: Callable[..., object], mistake: Mistake, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(mistake)


def test_budget_shares_that_add_up_to_one_are_accepted(load: Callable[..., object]) -> None:
    def share(document: dict[str, Any]) -> None:
        document["models"][0]["budget_share"] = 0.7
        _second_model(document, budget_share=0.3)

    config = load(share)
    assert isinstance(config, SimulationConfig)
    assert [model.budget_share for model in config.models] == [0.7, 0.3]


def test_every_reader_is_a_source_and_every_source_has_a_reader() -> None:
    sources = {
        source
        for data in (PublicData, FolderData)
        for source in get_args(data.model_fields["source"].annotation)
    }
    assert sources == READERS_OF_DATA.keys()


def test_the_demo_shows_every_field_of_the_generator_with_its_default() -> None:
    shown = yaml.safe_load((CONFIGS / "simulation/demo.yaml").read_text("utf-8"))
    generator = shown["data"]["generator"]
    defaults = SyntheticSchools().model_dump(exclude={"schools", "groups"})
    assert {name: generator[name] for name in defaults} == defaults

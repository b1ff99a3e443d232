"""The two app objects that the bundle names, run as an institution and a coordinator run them."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from flwr.app import Context

from cloister_client.app import HOME_KEY
from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_server.app import RUN_KEY
from cloister_server.checkpoint import RunState, read_checkpoint, save_checkpoint
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy
from cloister_simulations.backend.in_process import run_in_process

BUNDLE = Path(__file__).parents[2] / "server/cloister_server/bundle"
CURRICULUM = Curriculum(
    name="sums",
    skills=(Skill(id="adding"), Skill(id="taking away")),
    items=(Item(id="1+1", skills=("adding",)), Item(id="2-1", skills=("taking away",))),
)
BUDGET = Budget(epsilon=2.0, delta=1e-5)
ROUNDS = 3


def make_home(path: Path) -> NodeHome:
    config = NodeConfig(
        name=path.name, declared_size=50, evaluation_share=0.0, policy=Policy(budget=BUDGET)
    )
    home = NodeHome.create(path, config, CURRICULUM)
    with home.store() as store:
        store.import_interactions(
            Interaction(f"learner {one}", item.id, one % 2 == 0, when, str(when))
            for one in range(20)
            for when, item in enumerate(CURRICULUM.items * 3)
        )
    return home


def make_run(directory: Path) -> Path:
    noise = BUDGET.calibrate(0.5, 1, ROUNDS)
    spec = DktSpec(skills=2, hidden=4)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.1, sampling_rate=0.5)
    plan = Plan(
        run="first",
        curriculum=CURRICULUM.digest,
        models=(ModelPlan(spec=spec, rounds=ROUNDS, mechanism=mechanism),),
        declared_sizes={"oak": 50, "elm": 50},
        quorum=2,
    )
    path = directory / "first.checkpoint"
    save_checkpoint(path, RunState(plan, {"dkt": spec.initial_weights(CURRICULUM, 1)}))
    return path


def bundled(component: str):
    """The app object that the bundle's settings name."""
    settings = tomllib.loads((BUNDLE / "pyproject.toml").read_text("utf-8"))
    module, _, name = settings["tool"]["flwr"]["app"]["components"][component].partition(":")
    return getattr(import_module(module), name)


def test_the_bundle_holds_settings_and_no_code() -> None:
    assert [path.name for path in BUNDLE.iterdir()] == ["pyproject.toml"]


def test_the_bundled_apps_train_institutions_and_leave_them_a_model(tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name) for name in ("oak", "elm")]
    checkpoint = make_run(tmp_path)
    nodes = {number: {HOME_KEY: str(home.path)} for number, home in enumerate(homes, start=1)}
    run = {RUN_KEY: str(checkpoint)}
    run_in_process(bundled("serverapp"), bundled("clientapp"), nodes, run)
    state = read_checkpoint(checkpoint)
    assert [record.participants for record in state.records] == [("elm", "oak")] * ROUNDS
    for home in homes:
        with home.store() as store:
            model = store.active_model("dkt")
            assert model is not None
            assert (model.weights["output"] == state.weights["dkt"]["output"]).all()
        assert home.ledger().spent()["train", "all"].epsilon(BUDGET.delta, "rdp") <= BUDGET.epsilon


def test_a_node_without_a_home_and_a_run_without_a_checkpoint_are_told_what_to_do() -> None:
    from cloister_client.app import node_from_context
    from cloister_server.app import run_from_context

    empty = Context(1, 1, {}, {}, {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--node-config"):
        node_from_context(empty)
    with pytest.raises(ConfigError, match="--run-config"):
        run_from_context(None, empty)  # type: ignore[arg-type]

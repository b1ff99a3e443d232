"""The in-process grid keeps the contract of Flower's ``Grid``, and rounds survive bad nodes."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from cloister_client.flower import make_client_app
from cloister_server.checkpoint import RunState
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    BODY_KEY,
    RECORD_KEY,
    Contribution,
    join,
    pack_signed,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_simulations.backend.in_process import InProcessGrid, run_in_process
from cloister_simulations.config import SimulationConfig
from cloister_simulations.nodes import MemoryNodes, node_configs, simulated_key
from cloister_simulations.plans import make_plan
from cloister_simulations.population import populate

NODES = {1: {"name": "north"}, 2: {"name": "south"}, 3: {"name": "west"}}
Alter = Callable[[bytes], bytes]


def echo_app() -> ClientApp:
    """Answers with its node's name, the number of messages that it saw, and the message."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        seen = context.state.config_records.setdefault("seen", ConfigRecord({"count": 0}))
        seen["count"] = int(str(seen["count"])) + 1
        name = context.node_config["name"]
        if message.content.config_records["ask"]["text"] == f"fail, {name}":
            raise ValueError("ada answered 1")
        answer = {"name": name, "count": seen["count"], **message.content.config_records["ask"]}
        return Message(RecordDict({"answer": ConfigRecord(answer)}), reply_to=message)

    return app


def ask(node: int, text: str = "hello") -> Message:
    return Message(RecordDict({"ask": ConfigRecord({"text": text})}), node, "query")


def answer(message: Message) -> dict[str, object]:
    return dict(message.content.config_records["answer"])


@pytest.fixture
def grid() -> Grid:
    """A grid over three echoing nodes, as a ServerApp sees it."""
    # A run has to begin before messages can be made.
    run_in_process(make_server_app(lambda exchange, _: None), echo_app(), NODES)
    return InProcessGrid(echo_app(), NODES)


def test_the_grid_knows_its_nodes(grid: Grid) -> None:
    assert list(grid.get_node_ids()) == [1, 2, 3]


def test_every_node_answers_its_own_message(grid: Grid) -> None:
    replies = list(grid.send_and_receive([ask(node, f"to {node}") for node in (3, 1)], timeout=1))
    assert [reply.metadata.src_node_id for reply in replies] == [3, 1]
    assert [answer(reply)["name"] for reply in replies] == ["west", "north"]
    assert [answer(reply)["text"] for reply in replies] == ["to 3", "to 1"]


def test_a_reply_is_handed_out_once_and_says_what_it_answers(grid: Grid) -> None:
    identifiers = list(grid.push_messages([ask(1), ask(2)]))
    assert len(set(identifiers)) == 2
    (first,) = grid.pull_messages(identifiers[:1])
    assert first.metadata.reply_to_message_id == identifiers[0]
    (second,) = grid.pull_messages(identifiers)
    assert second.metadata.src_node_id == 2
    assert list(grid.pull_messages([*identifiers, "never sent"])) == []


def test_a_node_keeps_its_state_between_messages(grid: Grid) -> None:
    counts = [answer(next(iter(grid.send_and_receive([ask(1)]))))["count"] for _ in range(3)]
    assert counts == [1, 2, 3]
    (other,) = grid.send_and_receive([ask(2)])
    assert answer(other)["count"] == 1


def test_a_failing_node_is_an_error_reply_and_the_others_are_heard(
    grid: Grid, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [ask(node, "fail, south") for node in (1, 2, 3)]
    with caplog.at_level(logging.CRITICAL):
        replies = list(grid.send_and_receive(messages))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    error = replies[1].error
    assert error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert "ada" not in (error.reason or ""), "what failed may hold learner data"
    (healed,) = grid.send_and_receive([ask(2)])
    assert answer(healed)["name"] == "south"


def test_the_run_can_be_set_and_messages_can_be_made_the_old_way(grid: Grid) -> None:
    run = Run.create_empty(7)
    grid.set_run(run)
    assert grid.run.run_id == 7
    content = RecordDict({"ask": ConfigRecord({"text": "old"})})
    made = grid.create_message(content, "query", 2, "group", ttl=60.0)
    (reply,) = grid.send_and_receive([made])
    assert (answer(reply)["text"], reply.metadata.group_id) == ("old", "group")


def test_an_error_of_the_coordinator_is_raised() -> None:
    def run(*_: object) -> None:
        raise RunError("no quorum")

    with pytest.raises(RunError, match="no quorum"):
        run_in_process(make_server_app(run), echo_app(), NODES)


# --- rounds over nodes of which some misbehave -----------------------------------------------


class Consortium:
    """The tiny consortium, trained with replies of one node altered on their way."""

    def __init__(self, config: SimulationConfig, directory: Path) -> None:
        self.population = populate(config)
        self.plan = make_plan(
            config,
            "run",
            self.population.curriculum,
            self.population.declared_sizes,
            private=True,
        )
        self.nodes = MemoryNodes(
            curriculum=self.population.curriculum,
            sources={name: self.population.source(name) for name in self.population.institutions},
            declared_sizes=self.population.declared_sizes,
            budget=config.privacy.budget,
            seed=1,
            enforced=True,
        )
        spec = self.plan.models[0].spec
        initial = {"dkt": spec.initial_weights(self.population.curriculum, 1)}
        self.coordinator = Coordinator(self.plan, initial, directory)

    def train(self, alter: Alter) -> RunState:
        states: list[RunState] = []
        run_in_process(
            make_server_app(lambda exchange, _: states.append(self.coordinator.run(exchange))),
            altered(make_client_app(self.nodes), alter),
            node_configs(self.nodes),
        )
        return states[0]


def altered(app: ClientApp, alter: Alter) -> ClientApp:
    """``app`` whose contributions go through ``alter``."""
    wrapper = ClientApp()

    @wrapper.train("round")
    def train(message: Message, context: Context) -> Message:
        reply = app(message, context)
        body = alter(bytes(reply.content.config_records[RECORD_KEY][BODY_KEY]))  # type: ignore[arg-type]
        reply.content.config_records[RECORD_KEY][BODY_KEY] = body
        return reply

    @wrapper.query("release")
    def release(message: Message, context: Context) -> Message:
        return app(message, context)

    return wrapper


def of_south(change: Callable[[Weights], Weights]) -> Alter:
    """South contributes other arrays in round 2, and signs them."""

    def alter(body: bytes) -> bytes:
        header, arrays = unpack(body, Contribution)
        if (header.node, header.round) != ("south", 2):
            return body
        changed = join({"dkt": change(split(arrays)["dkt"])})
        return pack_signed(header, changed, simulated_key("south"))

    return alter


def fail(arrays: Weights) -> Weights:
    raise RuntimeError("the node failed")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: {**arrays, "output": arrays["output"][:-1]}, r"output must be float32"),
        (lambda arrays: {**arrays, "output": arrays["output"].astype(np.float64)}, r"float64"),
        (lambda arrays: {**arrays, "output": arrays["output"] * np.float32("nan")}, "not finite"),
        (lambda arrays: {**arrays, "output": arrays["output"] + np.float32(1e6)}, "norm"),
        (lambda arrays: {name: arrays[name] for name in ("input", "output")}, "asked for the arr"),
        (fail, "transport error"),
    ],
    ids=["shape", "dtype", "nan", "norm", "missing", "failing"],
)
def test_a_bad_contribution_is_rejected_by_name_and_the_run_goes_on(
    make_config: Callable[..., SimulationConfig],
    tmp_path: Path,
    change: Callable[[Weights], Weights],
    reason: str,
) -> None:
    consortium = Consortium(make_config({"rounds": 3}), tmp_path)
    state = consortium.train(of_south(change))
    assert [record.participants for record in state.records] == [
        ("north", "south"),
        ("north",),
        ("north", "south"),
    ]
    assert list(state.records[1].rejected) == ["south"]
    assert reason in state.records[1].rejected["south"]
    assert all(np.isfinite(array).all() for array in state.weights["dkt"].values())


def test_without_a_quorum_the_run_stops_and_resumes_once_the_nodes_are_well(
    make_config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    consortium = Consortium(make_config({"rounds": 3}, quorum_share=1.0), tmp_path)
    with pytest.raises(RunError, match=r"round 2 needs 2 contributions, 1 of 2 .*run again"):
        consortium.train(of_south(fail))
    state = consortium.train(lambda body: body)
    assert [record.round for record in state.records] == [1, 2, 3]
    healthy = Consortium(make_config({"rounds": 3}, quorum_share=1.0), tmp_path / "healthy")
    expected = healthy.train(lambda body: body)
    for name, array in expected.weights["dkt"].items():
        assert np.array_equal(state.weights["dkt"][name], array)

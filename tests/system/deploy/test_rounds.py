"""A consortium of real processes: link, runner and nodes, over TLS on loopback."""

from pathlib import Path

import pytest
from tests.system.consortium import BUDGET, CURRICULUM, NAMES, ROUNDS, write_audit
from tests.system.deploy.processes import SIZE, consortium, ended
from tests.waiting import until

from cloister_client.home import NodeHome
from cloister_server.checkpoint import RunState
from cloister_server.run_folder import Phase
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Mechanism

pytestmark = pytest.mark.deploy


def first_round(run: str, rounds: int = ROUNDS, names: tuple[str, ...] = NAMES) -> RunState:
    """The state of a run that has not begun."""
    spec = DktSpec(skills=2, hidden=4)
    noise = BUDGET.calibrate(0.5, 1, rounds)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.1, sampling_rate=0.5)
    plan = Plan(
        run=run,
        curriculum=CURRICULUM.digest,
        models=(ModelPlan(spec=spec, rounds=rounds, mechanism=mechanism),),
        declared_sizes=dict.fromkeys(names, SIZE),
        quorum=2,
        deadline_s=60.0,
    )
    return RunState(plan, {"dkt": spec.initial_weights(CURRICULUM, 1)})


def test_two_nodes_train_over_tls_and_keep_the_model(tmp_path: Path) -> None:
    with consortium(tmp_path, NAMES) as running:
        state = first_round("autumn")
        folder = running.order(state)
        write_audit(folder.audit, state.plan.models[0].mechanism, running.nodes["oak"])
        assert ended(folder) is Phase.FINISHED, folder.status.reason
        records = folder.state().records
        assert [record.participants for record in records] == [tuple(sorted(NAMES))] * ROUNDS
        for home in running.nodes.values():
            until(lambda home=home: has_model(home), "the node keeps the released model")
            assert home.ledger().spent()["train", "all"].epsilon(BUDGET.delta, "rdp") <= (
                BUDGET.epsilon
            )


def has_model(home: NodeHome) -> bool:
    with home.store() as store:
        return store.active_model("dkt") is not None

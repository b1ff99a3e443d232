"""A small consortium for system tests: two homes with learners, and a run that may begin."""

from pathlib import Path

from cloister_client.audit.one_run import audit_mechanism
from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_server.app import AUDIT
from cloister_server.checkpoint import RunState, save_checkpoint
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy import Budget, Mechanism, Policy
from cloister_shared.privacy.audit_report import SignedAudit

BUNDLE = Path(__file__).parents[2] / "server/cloister_server/bundle"
CURRICULUM = Curriculum(
    name="sums",
    skills=(Skill(id="adding"), Skill(id="taking away")),
    items=(Item(id="1+1", skills=("adding",)), Item(id="2-1", skills=("taking away",))),
)
BUDGET = Budget(epsilon=2.0, delta=1e-5)
ROUNDS = 3
NAMES = ("oak", "elm")


def make_home(path: Path, learners: int = 20, evaluation_share: float = 0.0) -> NodeHome:
    config = NodeConfig(
        name=path.name,
        declared_size=50,
        evaluation_share=evaluation_share,
        policy=Policy(budget=BUDGET),
    )
    home = NodeHome.create(path, config, CURRICULUM)
    with home.store() as store:
        store.import_interactions(
            Interaction(f"learner {one}", item.id, one % 2 == 0, when, str(when))
            for one in range(learners)
            for when, item in enumerate(CURRICULUM.items * 3)
        )
    return home


def write_audit(file: Path, mechanism: Mechanism, node: NodeHome | None = None) -> None:
    """As ``cloister audit privacy`` at the node does, or at the first one beside the file."""
    home = node or NodeHome.open(file.parent / NAMES[0])
    audited = mechanism.model_copy(update={"sampling_rate": 1.0, "noise_multiplier": 1.0})
    report = audit_mechanism("dkt", audited, steps=1, delta=BUDGET.delta, canaries=100_000)
    file.write_text(SignedAudit.sign((report,), home.signing_key()).model_dump_json())


def make_run(directory: Path) -> Path:
    """A run's first checkpoint, beside the report of an audit; the homes must be there."""
    noise = BUDGET.calibrate(0.5, 1, ROUNDS)
    spec = DktSpec(skills=2, hidden=4)
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=0.1, sampling_rate=0.5)
    plan = Plan(
        run="first",
        curriculum=CURRICULUM.digest,
        models=(ModelPlan(spec=spec, rounds=ROUNDS, mechanism=mechanism),),
        declared_sizes=dict.fromkeys(NAMES, 50),
        quorum=2,
    )
    write_audit(directory / AUDIT, mechanism)
    path = directory / "first.checkpoint"
    save_checkpoint(path, RunState(plan, {"dkt": spec.initial_weights(CURRICULUM, 1)}))
    return path

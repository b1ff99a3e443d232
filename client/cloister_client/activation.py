"""A released model goes into service, unless it surely tells who was trained on.

Whether it does is found out with this node's own learners, so nothing that leaves may depend on it:
it happens after the receipt was made, which is the same either way.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cloister_client.audit.membership import Candidate, MembershipReport, attack_model
from cloister_client.histories import SilentSource
from cloister_client.store import ModelVersion, Store
from cloister_client.swapping import introduce, try_out
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import CloisterError, ConfigError
from cloister_shared.messages import Release
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.policy import Policy

UNTRAINED = "untrained"
"""What the report calls a reference that is the kind's public initial weights."""
PENDING = (
    "it was not examined yet: that is being done, or the node ended before; it is done when the "
    "node answers the coordinator next"
)
SUPERSEDED = "another version came before it was examined"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Activation:
    """Keeps released models in a store, and decides which of them are served."""

    store: Store
    curriculum: Curriculum
    policy: Policy

    def keep(self, release: Release, weights: Mapping[str, Weights]) -> None:
        """Add a release's models, by kind, to the store; until it is examined none is served.

        Of the models that wait for that, the one of its kind that came last is left. Raises
        ``PolicyError`` for a release that is older than one that was kept.
        """
        specs = {model.spec.kind: model.spec for model in release.plan.models}
        models = [(specs[kind], arrays) for kind, arrays in weights.items()]
        plan = release.plan.digest
        for version in self.store.add_release(models, plan, release.round, release.serial):
            for waiting in self._waiting(version.spec.kind):
                self.store.block(waiting, SUPERSEDED)
            if not self._is_served(version):
                self.store.block(version.version, PENDING)

    def steps(self) -> Iterator[None]:
        """Serve every model that waits for it, unless it fails a test; piece by piece.

        One that is not served has the reason beside it, for the administrator's eyes. The older
        one answers until all learners' states are carried on under the new one.
        """
        for version in self._waiting():
            yield from self._decide(version)

    def examine(self, version: ModelVersion) -> MembershipReport:
        """Attack a kept model; the reference is the one of its kind that was kept before it.

        Raises ``ConfigError`` if the model is not of this curriculum's size.
        """
        version.spec.check_curriculum(self.curriculum)
        return attack_model(
            Candidate(version.version, version.spec, version.weights),
            self._reference(version),
            SilentSource(self.store),
            self.policy.budget,
        )

    def _waiting(self, kind: str | None = None) -> list[str]:
        """The models, of one kind or of all, about which nothing was decided yet."""
        blocked = self.store.blocked_models().items()
        waiting = [version for version, reason in blocked if reason == PENDING]
        if kind is None:
            return waiting
        return [one for one in waiting if self.store.kind_of(one) == kind]

    def _is_served(self, version: ModelVersion) -> bool:
        return self.store.active_version(version.spec.kind) == version.version

    def _decide(self, name: str) -> Iterator[None]:
        try:
            version = self.store.model_version(name)
            try_out(version, self.curriculum)
            reason = self._objection(version)
        except CloisterError as error:
            reason = f"it could not be examined: {error}"
        yield
        if reason is None:
            yield from introduce(version, self.curriculum, self.store)
        if self.store.blocked_models().get(name) != PENDING:
            return  # another one came meanwhile
        if reason is None:
            self.store.activate(self.store.kind_of(name), name)
            self.store.prune_states(self.store.kind_of(name))
        else:
            self.store.block(name, reason)
            _LOG.warning("%s %s is not served: %s", self.store.kind_of(name), name, reason)

    def _objection(self, version: ModelVersion) -> str | None:
        limit = self.policy.max_membership_advantage
        if limit is None:
            return None
        found = self.examine(version).lower_bound
        if found <= limit:
            return None
        return (
            f"who was trained on can be told from it with an advantage of at least {found:.2f}, "
            f"the policy's max_membership_advantage is {limit:g}"
        )

    def _reference(self, version: ModelVersion) -> Candidate:
        """The model kept before, if it still fits the curriculum, or one that is not trained."""
        earlier = self.store.kept_before(version)
        if earlier is not None and self._fits(earlier.spec):
            return Candidate(earlier.version, earlier.spec, earlier.weights)
        weights = version.spec.initial_weights(self.curriculum, seed=0)
        return Candidate(UNTRAINED, version.spec, weights)

    def _fits(self, spec: ModelSpec) -> bool:
        """False for a model of an older, smaller curriculum."""
        try:
            spec.check_curriculum(self.curriculum)
        except ConfigError:
            return False
        return True

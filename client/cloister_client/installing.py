"""Which released models a node takes over for its own service."""

from collections.abc import Callable, Mapping

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import MessageError, PolicyError
from cloister_shared.messages import Release
from cloister_shared.model_specs import ModelSpec, Weights, check_weights

Install = Callable[[Release, Mapping[str, Weights]], None]
"""Keeps the models of a release, by kind: all of them, or none and a ``CloisterError``."""
Activate = Callable[[], None]
"""Puts what was kept into service, now or later, or decides against it."""


def leave_it() -> None:
    """For nodes that serve nobody."""


def install_release(
    release: Release,
    weights: Mapping[str, Weights],
    curriculum: Curriculum,
    coordinator: str | None,
    install: Install,
) -> None:
    """Install every model of a release; ``weights`` are by model kind.

    All of them or none: raises ``PolicyError`` for another curriculum, or for a version that the
    ``coordinator``'s key did not sign as it came, and ``MessageError`` or ``ConfigError`` where a
    model does not fit, before the first is installed; whatever ``install`` raises.
    """
    plan = release.plan
    if plan.curriculum != curriculum.digest:
        raise PolicyError("the release is for another curriculum than this node's", "curriculum")
    specs = _specs(release)
    if weights.keys() != specs.keys():
        raise MessageError("a release holds the plan's models, or those that it names, each once")
    for kind, spec in specs.items():
        spec.check_curriculum(curriculum)
        check_weights(weights[kind], spec)
    for one in release.manifests:
        one.check(weights[one.manifest.kind], coordinator)
    install(release, weights)


def _specs(release: Release) -> dict[str, ModelSpec]:
    """The models that were released, by kind."""
    specs = {model.spec.kind: model.spec for model in release.plan.models}
    if not release.manifests:
        return specs
    named = {one.manifest.kind: one.manifest for one in release.manifests}
    for kind, manifest in named.items():
        origin = manifest.spec, manifest.plan, manifest.round
        if origin != (specs.get(kind), release.plan.digest, release.round):
            raise MessageError(f"the {kind} that was released is not of this run's end")
    return {kind: specs[kind] for kind in named}

"""Model specs: names, shapes and numpy initialization; the torch side is in the client."""

from cloister_shared.model_specs.base import (
    SPECS,
    AnySpec,
    ModelSpec,
    Weights,
    check_weights,
    parse_spec,
)

__all__ = ["SPECS", "AnySpec", "ModelSpec", "Weights", "check_weights", "parse_spec"]

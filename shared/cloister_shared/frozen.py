"""The base of every validated document: immutable, unknown keys refused, no NaN."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """An immutable pydantic model that refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def describe(error: ValidationError) -> str:
    """All mistakes that pydantic found, each with its place, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, mistake['loc'])) or 'document'}: "
        f"{mistake['msg'].removeprefix('Value error, ')}"
        for mistake in error.errors()
    )

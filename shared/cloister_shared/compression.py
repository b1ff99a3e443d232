"""Weights in a quarter of their bytes: whole numbers of 8 bits, and a scale for every 128 of them.

All weights of a model lie in one row, in the spec's order, cut into blocks. A block's scale is a
127th of its largest magnitude; each weight becomes the nearest multiple. What rounding left of one
update can be added to the next (error feedback: Seide et al. 2014; Karimireddy et al. 2019): then
updates add up to the true sum, but for one rounding. Nothing here knows data: applied to what was
noised already, it is post-processing.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloister_shared.errors import MessageError
from cloister_shared.model_specs import ModelSpec, Weights, check_weights

Compression = Literal["none", "int8"]
Arrays = dict[str, NDArray[Any]]
"""A model's weights as a message holds them: by name, or ``numbers`` and ``scales``."""

NUMBERS, SCALES = "numbers", "scales"
BLOCK = 128
_LEVELS = 127
_MAX_SCALE = np.float32(np.finfo(np.float32).max / (_LEVELS + 1))

_ERROR_SHARE = math.sqrt(BLOCK) / (2 * _LEVELS)
"""Rounding's L2 error is at most this share of the norm of what is rounded.

A number is off by half a scale, a 254th of its block's largest magnitude, which is at most the
block's norm; a block has 128 numbers.
"""
NORM_SLACK = (1 + _ERROR_SHARE) / (1 - _ERROR_SHARE)
"""How much longer than the longest update one can be that was compressed with error feedback.

With s the share above, what is owed is at most s times what was rounded, which is an update of norm
≤ B and what was owed before: so it stays below s/(1 - s)·B for ever, and what is sent below
(1 + s)·(1 + s/(1 - s))·B.
"""


def encode(weights: Weights, spec: ModelSpec, compression: Compression) -> Arrays:
    """The weights of one model as a message holds them."""
    return weights if compression == "none" else _compress(weights, spec)


def decode(
    arrays: Mapping[str, NDArray[Any]], spec: ModelSpec, compression: Compression
) -> Weights:
    """Undo :func:`encode`; ``MessageError`` unless the arrays are those of such a model, finite."""
    weights = dict(arrays) if compression == "none" else _expand(arrays, spec)
    check_weights(weights, spec)
    return weights


def encode_owed(
    update: Weights, owed: Weights | None, spec: ModelSpec, compression: Compression
) -> tuple[Arrays, Weights]:
    """What is sent for ``update`` and what was ``owed``, and what is owed from then on.

    A number that is not finite owes nothing.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        due = update if owed is None else {name: update[name] + owed[name] for name in update}
        arrays = encode(due, spec, compression)
        sent = arrays if compression == "none" else _expanded(arrays, spec)
        rest = {name: due[name] - sent[name] for name in due}
    return arrays, {
        name: np.where(np.isfinite(array), array, np.float32(0)) for name, array in rest.items()
    }


def _compress(weights: Weights, spec: ModelSpec) -> Arrays:
    flat = np.concatenate([weights[name].ravel() for name in spec.shapes()])
    blocks = _in_blocks(flat)
    scales = np.abs(blocks).max(axis=1) / np.float32(_LEVELS)
    usable = (scales > 0) & np.isfinite(scales)
    ratios = np.zeros_like(blocks)
    np.divide(blocks, scales[:, None], out=ratios, where=usable[:, None])
    numbers = np.rint(ratios).clip(-_LEVELS, _LEVELS).astype(np.int8)
    return {NUMBERS: numbers.ravel()[: len(flat)], SCALES: scales}


def _expand(arrays: Mapping[str, NDArray[Any]], spec: ModelSpec) -> Weights:
    _check_form(arrays, spec)
    numbers, scales = arrays[NUMBERS], arrays[SCALES]
    # Written so that NaN, which compares to nothing, is refused too.
    if not ((scales >= 0) & (scales <= _MAX_SCALE)).all():
        raise MessageError(f"{spec.kind}: a scale is not between 0 and {_MAX_SCALE:.3g}")
    if (numbers < -_LEVELS).any():
        raise MessageError(f"{spec.kind}: a number is below {-_LEVELS}")
    return _expanded(arrays, spec)


def _check_form(arrays: Mapping[str, NDArray[Any]], spec: ModelSpec) -> None:
    """Raise ``MessageError`` unless there are a number a weight and a scale a block."""
    size = spec.dimension
    form: dict[str, tuple[int, type[np.generic]]] = {
        NUMBERS: (size, np.int8),
        SCALES: (-(-size // BLOCK), np.float32),
    }
    if arrays.keys() != form.keys():
        raise MessageError(f"{spec.kind}: asked for {sorted(form)}, found {sorted(arrays)}")
    for name, (length, dtype) in form.items():
        array = arrays[name]
        if array.shape != (length,) or array.dtype != dtype:
            raise MessageError(
                f"{spec.kind}: {name} must be {length} of {np.dtype(dtype)}, found {array.dtype} "
                f"{array.shape}"
            )


def _expanded(arrays: Mapping[str, NDArray[Any]], spec: ModelSpec) -> Weights:
    """The weights that arrays of the right form stand for."""
    blocks = _in_blocks(arrays[NUMBERS].astype(np.float32))
    flat = (blocks * arrays[SCALES][:, None]).ravel()
    shapes = spec.shapes()
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(flat[: ends[-1]], ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def _in_blocks(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(blocks, 128); the last one is filled up with zeros."""
    return np.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)

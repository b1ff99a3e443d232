"""Compiled sums of readings are those formed in PyTorch, however they are shared out."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.kernels.loader import kernels
from cloister_client.kernels.tables import _parts
from cloister_client.models.table_gradient import TableGradient

from ..models.per_learner import without_kernels

pytestmark = pytest.mark.skipif(kernels() is None, reason="no compiler on this machine")


@st.composite
def gradients(draw):
    """A table's gradient with up to sixty readings by four rows of two learners."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    readings, size = draw(st.integers(0, 60)), draw(st.integers(1, 9))
    return TableGradient(
        vectors=torch.randn(11, draw(st.integers(1, 35)), generator=random),
        positions=torch.randint(0, 11, (readings,), generator=random),
        indices=torch.randint(0, size, (readings,), generator=random),
        weights=torch.randn(readings, generator=random),
        batch_rows=torch.randint(0, 4, (readings,), generator=random),
        size=size,
        bias=draw(st.booleans()),
    )


@settings(max_examples=80, deadline=None)
@given(gradients())
def test_norms_and_weighted_sums_are_those_formed_in_pytorch(gradient):
    tables = gradient.by_learner(torch.tensor([0, 1, 0, 1]), 2)
    coefficients = torch.tensor([0.5, 0.0])
    compiled = tables.squared_norms(), tables.weighted(coefficients)
    with without_kernels():
        expected = tables.squared_norms(), tables.weighted(coefficients)
    for ours, theirs in zip(compiled, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 9), max_size=80))
def test_no_two_parts_share_a_row(keys):
    rising = torch.tensor(sorted(keys), dtype=torch.int64)
    parts = _parts(rising)
    assert [place for first, last in parts for place in range(first, last)] == list(
        range(len(keys))
    )
    for (_, last), (first, _) in pairwise(parts):
        assert last == first
        assert rising[last - 1] != rising[first]

"""A table's gradient is the sum of its readings, whole, by row and by learner, to the last bit."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.models import table_gradient
from cloister_client.models.table_gradient import TableGradient, flat


def readings(
    rows: torch.Tensor, *, size: int = 4, width: int = 3, bias: bool = False, seed: int = 1
) -> TableGradient:
    """Random readings by the batch's ``rows`` (R,) of two vectors each."""
    random = torch.Generator().manual_seed(seed)
    count = len(rows)
    return TableGradient(
        vectors=torch.randn(2 * count, width, generator=random, dtype=torch.float64),
        positions=torch.randint(2 * count, (count,), generator=random) if count else rows,
        indices=torch.randint(size, (count,), generator=random),
        weights=torch.randn(count, generator=random, dtype=torch.float64),
        batch_rows=rows,
        size=size,
        bias=bias,
    )


def one_by_one(gradient: TableGradient, rows: int) -> torch.Tensor:
    """(rows, size, width) the tables, reading by reading."""
    tables = torch.zeros(rows, gradient.size, gradient.width, dtype=torch.float64)
    for at in range(len(gradient.indices)):
        vector = gradient.vectors[gradient.positions[at]]
        if gradient.bias:
            vector = torch.cat([vector, vector.new_ones(1)])
        tables[gradient.batch_rows[at], gradient.indices[at]] += gradient.weights[at] * vector
    return tables


@st.composite
def cases(draw):
    learners = draw(st.integers(1, 5))
    owners = draw(st.lists(st.integers(0, learners - 1), min_size=1, max_size=8))
    rows = draw(st.lists(st.integers(0, len(owners) - 1), max_size=30))
    gradient = readings(
        torch.tensor(rows, dtype=torch.int64),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )
    return gradient, torch.tensor(owners), learners


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([1, 7, 2**18]))
def test_every_way_to_sum_is_the_sum_of_the_readings(case, at_once):
    gradient, owners, learners = case
    by_row = one_by_one(gradient, len(owners))
    by_learner = torch.zeros(learners, *by_row.shape[1:], dtype=by_row.dtype)
    by_learner.index_add_(0, owners, by_row)
    coefficients = torch.linspace(0, 1, learners, dtype=by_row.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_gradient, "_FLOATS_AT_ONCE", at_once)
        tables = gradient.by_learner(owners, learners)
        found = [tables.squared_norms(), tables.weighted(coefficients)]
    expected = [
        by_learner.flatten(1).square().sum(dim=1),
        torch.einsum("n,nsw->sw", coefficients, by_learner),
    ]
    found += [gradient.total(), gradient.per_row(len(owners))]
    expected += [by_row.sum(dim=0), by_row]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_learner_with_the_coefficient_zero_is_left_out_even_if_not_finite():
    gradient = readings(torch.tensor([0, 1, 0, 1]), width=2)
    gradient.weights[1] = float("nan")
    gradient.weights[3] = float("inf")
    tables = gradient.by_learner(torch.arange(2), 2)
    assert tables.squared_norms().isfinite().tolist() == [True, False]
    alone = readings(torch.tensor([0, 0]))
    for name in ("positions", "indices", "weights"):
        getattr(alone, name)[:] = getattr(gradient, name)[::2]
    alone = replace(alone, vectors=gradient.vectors)
    kept = tables.weighted(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert torch.equal(kept, alone.total())


@pytest.mark.usefixtures("_either_way")
def test_readings_that_cancel_do_not_swallow_what_others_add():
    """Such a learner's gradient is zero, and so is not clipped, however large the readings are."""
    gradient = TableGradient(
        vectors=torch.tensor([[0.01], [1e10], [-1e10]]),
        positions=torch.arange(3),
        indices=torch.zeros(3, dtype=torch.int64),
        weights=torch.ones(3),
        batch_rows=torch.tensor([0, 1, 1]),
        size=1,
    )
    tables = gradient.by_learner(torch.arange(2), 2)
    assert tables.squared_norms()[1] == 0
    assert tables.weighted(torch.ones(2)) == pytest.approx(0.01)


@pytest.mark.usefixtures("_either_way")
def test_the_norm_of_very_many_readings_is_not_lost_in_rounding():
    count = 300_000
    gradient = TableGradient(
        vectors=torch.full((1, 1), 0.1),
        positions=torch.zeros(count, dtype=torch.int64),
        indices=torch.arange(count),
        weights=torch.ones(count),
        batch_rows=torch.zeros(count, dtype=torch.int64),
        size=count,
    )
    square = gradient.by_learner(torch.zeros(1, dtype=torch.int64), 1).squared_norms()
    assert square.item() == pytest.approx(0.01 * count, rel=1e-6)


@pytest.mark.usefixtures("_either_way", "_threads")
@pytest.mark.parametrize("width", [1, 3, 16, 37])
@pytest.mark.parametrize("others", [1, 30, 400])
def test_a_learner_adds_the_same_to_the_last_bit_whoever_else_reads(others, width):
    """Readings of very different sizes: any other order of adding would be seen."""
    rows = torch.arange(1 + others).repeat(20)
    random = readings(rows, size=7, width=width, bias=True)
    huge = 10 ** torch.linspace(-6, 6, len(rows), dtype=torch.float64)
    everybody = replace(
        random, vectors=random.vectors.float(), weights=(random.weights * huge).float()
    )
    own = rows == others
    alone = replace(
        everybody,
        **{name: getattr(everybody, name)[own] for name in ("positions", "indices", "weights")},
        batch_rows=torch.zeros(20, dtype=torch.int64),
    )
    tables = everybody.by_learner(torch.arange(1 + others), 1 + others)
    mine = alone.by_learner(torch.zeros(1, dtype=torch.int64), 1)
    assert tables.squared_norms()[others] == mine.squared_norms()
    chosen = torch.zeros(1 + others)
    chosen[others] = 0.3
    assert torch.equal(tables.weighted(chosen), mine.weighted(torch.tensor([0.3])))


@given(st.permutations([0, 1, 2]))
def test_a_matrix_of_vectors_is_the_same_whatever_lies_first_in_memory(order):
    shape = (2, 3, 4)
    stored = torch.arange(24.0).view(2, 3, 4).permute(order).contiguous()
    tensor = stored.permute([order.index(axis) for axis in range(3)])
    matrix, (by_row, by_place) = flat(tensor)
    for row in range(shape[0]):
        for place in range(shape[1]):
            assert torch.equal(matrix[row * by_row + place * by_place], tensor[row, place])

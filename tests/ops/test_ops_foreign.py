"""Every operation and every rule asks the module of its arguments for all it does: none of them assumes NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minimeta
from minimeta import ops, testing, tree
from minimeta.ops.record import RECORDS
from tests.ops.foreign import Foreign, to_numpy, xp


def to_foreign(values):
    return tree.map(lambda x: xp.asarray(x) if isinstance(x, np.ndarray | np.generic) else x, values)


def assert_same(found, expected):
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert type(x) is Foreign
        np.testing.assert_allclose(to_numpy(x), y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sorted(RECORDS))
@settings(max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_same_values_and_gradients_as_on_numpy(name, data):
    record = RECORDS[name]
    case = testing.Case(record, *record.cases(testing.HypothesisDraw(data)))
    args, options = to_foreign(case.args), to_foreign(case.options)
    foreign = testing.Case(record, args, options)
    assert_same(foreign.call(*args), case.call(*case.args))
    if record.orders:
        assert_same(foreign.gradients(args), case.gradients(case.args))


def test_second_order_runs_on_the_other_module():
    x = xp.asarray(np.array([1.0, 2.0, 3.0]))
    product = minimeta.hvp(lambda x: (ops.tanh(x) @ x[[0, 0, 2]]).sum(), x, xp.ones_like(x))
    assert type(product) is Foreign


def test_the_stand_in_refuses_numpy():
    x = xp.ones(3)
    for call in (lambda: np.sum(x), lambda: x + np.ones(3), lambda: xp.add(x, np.ones(3))):
        with pytest.raises(TypeError):
            call()

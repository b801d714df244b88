"""Every operation's record, taken through every generic check. MINIMETA_EXAMPLES=500 explores with fresh cases."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimeta import ops, testing
from minimeta.ops.record import RECORDS

EXAMPLES = os.environ.get("MINIMETA_EXAMPLES")
profile = settings(
    max_examples=int(EXAMPLES or 15),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("check", testing.CHECKS)
@pytest.mark.parametrize("name", sorted(RECORDS))
@profile
@given(data=st.data())
def test_record(name, check, data):
    record = RECORDS[name]
    testing.CHECKS[check](testing.Case(record, *record.cases(testing.HypothesisDraw(data))))


@pytest.mark.parametrize("name", sorted(name for name, record in RECORDS.items() if record.conventions))
def test_convention(name):
    testing.check_conventions(RECORDS[name])


@profile
@given(data=st.data())
def test_check_op_makes_every_check(data):
    testing.check_op(RECORDS["tanh"], testing.HypothesisDraw(data))


def test_every_public_operation_has_a_record():
    without = {"astype"}  # the one operation whose result is not of its input's dtype: test_ops_errors.py
    functions = {name: value for name, value in vars(ops).items() if callable(value) and not isinstance(value, type)}
    public = {name for name in functions if not name.startswith("_")}
    assert public - set(RECORDS) == without


def test_public_operations_are_documented():
    assert [name for name in RECORDS if not (RECORDS[name].op.__doc__ or "").strip()] == []

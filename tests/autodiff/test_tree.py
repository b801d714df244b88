"""Trees: what goes apart comes together again, and what differs is named."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimeta import tree


class Pair(NamedTuple):
    left: Any
    right: Any


def trees(leaf: Any) -> Any:
    def deeper(child: Any) -> Any:
        return st.one_of(
            st.lists(child, max_size=3),
            st.lists(child, max_size=3).map(tuple),
            st.dictionaries(st.sampled_from("abc"), child, max_size=3),
            st.builds(Pair, child, child),
        )

    return st.recursive(st.one_of(leaf, st.none()), deeper, max_leaves=8)


TREES = trees(st.integers())


def shape(t: Any) -> Any:
    """The tree with its leaves blanked; types count."""
    return repr(tree.map(lambda _: 0, t))


@given(TREES)
def test_unflatten_puts_leaves_back(t):
    back = tree.unflatten(t, tree.leaves(t))
    assert back == t
    assert repr(back) == repr(t)  # == does not tell a named tuple from a tuple


@given(TREES)
def test_map_of_the_identity_is_the_tree_and_maps_compose(t):
    assert tree.map(lambda x: x, t) == t
    assert tree.map(lambda x: 2 * x + 1, t) == tree.map(lambda x: x + 1, tree.map(lambda x: 2 * x, t))


@given(TREES)
def test_map_keeps_order_and_shape(t):
    doubled = tree.map(lambda x: 2 * x, t)
    assert tree.leaves(doubled) == [2 * x for x in tree.leaves(t)]
    assert shape(doubled) == shape(t)


@given(TREES)
def test_map_over_several_trees_meets_equal_places(t):
    assert tree.map(lambda a, b, c: (a == b) + c, t, t, t) == tree.map(lambda a: 1 + a, t)


@given(TREES)
def test_items_are_the_leaves_with_paths_that_lead_to_them(t):
    assert [leaf for _, leaf in tree.items(t)] == tree.leaves(t)
    for path, leaf in tree.items(t):
        place = t
        for key in path:
            place = place[key] if isinstance(place, dict) else place[int(key)]
        assert place is leaf


def test_dicts_meet_by_key_whatever_their_order():
    assert tree.map(lambda a, b: (a, b), {"a": 1, "b": 2}, {"b": 20, "a": 10}) == {"a": (1, 10), "b": (2, 20)}


def test_none_is_an_empty_tree():
    assert tree.leaves(None) == []
    assert tree.map(lambda x: x + 1, {"a": None, "b": 1}) == {"a": None, "b": 2}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"w": 1}, {"v": 1}, r"at the root: dict with keys \['w'\] against dict with keys \['v'\]"),
        ({"w": [1, 2]}, {"w": [1]}, "at w: list of length 2 against list of length 1"),
        ([{"w": (1,)}], [{"w": 3}], "at 0/w: tuple of length 1 against a leaf"),
        ([1], [None], "at 0: a leaf against None"),
        ({"a": None}, {"a": 1}, "at a: None against a leaf"),
        (1, {"a": 1}, r"at the root: a leaf against dict with keys \['a'\]"),
    ],
)
def test_a_mismatch_names_the_place_and_both_sides(a, b, message):
    with pytest.raises(ValueError, match=f"tree.map: trees differ {message}"):
        tree.map(lambda x, y: x, a, b)


@given(TREES, st.integers(-2, 2).filter(bool))
def test_unflatten_wants_one_value_per_leaf(t, extra):
    count = len(tree.leaves(t))
    if count + extra >= 0:
        with pytest.raises(ValueError, match=f"the tree has {count} leaves, got {count + extra} values"):
            tree.unflatten(t, [0] * (count + extra))

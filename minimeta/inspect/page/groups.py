"""Boxes to fold: the scopes of a graph, and where there are none but many nodes, stretches of the computation.

A box holds nodes that were made one after another. A node needs older ones only, so that boxes, too, need only older
ones: there is never a cycle between them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

#: More than this many things side by side in one box are divided into stretches,
CROWD = 150
#: of about this many things, stretches of stretches if need be.
HANDFUL = 20


class Group:
    """A box with what is in it, nodes by number and boxes, oldest first. `kind`: "whole", "scope" or "stretch"."""

    def __init__(self, name: str, kind: str, members: list[Group | int] | None = None) -> None:
        self.name = name
        self.kind = kind
        self.members: list[Group | int] = [] if members is None else members

    def __iter__(self) -> Iterator[Group]:
        """This box and all in it, outer ones first."""
        yield self
        for member in self.members:
            if isinstance(member, Group):
                yield from member

    @property
    def nodes(self) -> list[int]:
        found: list[int] = []
        for member in self.members:
            found += member.nodes if isinstance(member, Group) else [member]
        return found


def grouped(scopes: Sequence[tuple[str, ...]], names: Sequence[str], parents: Sequence[Sequence[int]]) -> Group:
    """The boxes of a graph whose node i was made under `scopes[i]`, is called `names[i]` and needs `parents[i]`.

    >>> whole = grouped([(), ("a",), ("a", "b"), ("a",), ("c",)], list("vwxyz"), [[], [0], [1], [2], [3]])
    >>> [(group.name, group.nodes) for group in whole]
    [('', [0, 1, 2, 3, 4]), ('a', [1, 2, 3]), ('b', [2]), ('c', [4])]
    """
    whole = _by_scope(scopes)
    passing = _passing(parents)
    for group in list(whole):
        if len(group.members) > CROWD:
            first = next((i for i, member in enumerate(group.members) if not _is_input(member, parents)), 0)
            first = first if first <= 2 * HANDFUL else 0  # a few inputs stay in view
            group.members[first:] = _stretches(group.members[first:], names, passing)
    return whole


def _is_input(member: Group | int, parents: Sequence[Sequence[int]]) -> bool:
    return not isinstance(member, Group) and not parents[member]


def _by_scope(scopes: Sequence[tuple[str, ...]]) -> Group:
    open_groups = [Group("", "whole")]
    for i, path in enumerate(scopes):
        shared = 0
        while shared < min(len(path), len(open_groups) - 1) and open_groups[shared + 1].name == path[shared]:
            shared += 1
        del open_groups[shared + 1 :]
        for name in path[shared:]:
            inner = Group(name, "scope")
            open_groups[-1].members.append(inner)
            open_groups.append(inner)
        open_groups[-1].members.append(i)
    return open_groups[0]


def _passing(parents: Sequence[Sequence[int]]) -> list[int]:
    """How many nodes made before node i are needed by it or a later one."""
    last = list(range(len(parents)))
    for child, needed in enumerate(parents):
        for parent in needed:
            last[parent] = child
    change = [0] * (len(parents) + 2)
    for node, end in enumerate(last):
        change[node + 1] += 1
        change[end + 1] -= 1
    return list(itertools.accumulate(change))


def _stretches(members: list[Group | int], names: Sequence[str], passing: Sequence[int]) -> list[Group | int]:
    """The same things in boxes of a handful, cut where few nodes are needed across the cut."""
    depth = math.ceil(math.log(len(members), HANDFUL) - 1e-9)
    parts = math.ceil(len(members) ** (1 / depth))
    size = len(members) / parts
    firsts = [_first(member) for member in members]
    cuts = [0]
    for k in range(1, parts):
        window = range(max(round((k - 0.25) * size), cuts[-1] + 1), min(round((k + 0.25) * size) + 1, len(members)))
        middle = k * size
        cuts.append(min(window, key=lambda i: (passing[firsts[i]], abs(i - middle))))
    found: list[Group | int] = []
    for start, end in zip(cuts, [*cuts[1:], len(members)], strict=True):
        inside = members[start:end]
        name = f"{names[firsts[start]]} … {names[_last(inside[-1])]}"
        deeper = _stretches(inside, names, passing) if len(inside) > 2 * HANDFUL else inside
        found.append(Group(name, "stretch", deeper))
    return found


def _first(member: Group | int) -> int:
    return _first(member.members[0]) if isinstance(member, Group) else member


def _last(member: Group | int) -> int:
    return _last(member.members[-1]) if isinstance(member, Group) else member


def opened(whole: Group, limit: int) -> list[Group]:
    """The boxes to open at first: level by level, as long as no more than `limit` things are to be seen."""
    found, level, seen = [whole], [whole], len(whole.members)
    while level:
        level = [member for group in level for member in group.members if isinstance(member, Group)]
        seen += sum(len(group.members) for group in level)
        if not level or seen > limit:
            break
        found += level
    return found

"""Two results of bench/run.py side by side: `python bench/compare.py OLD.json NEW.json`.

A time counts as changed where the middle halves of its samples lie apart and its median moved by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import table

_COLUMNS = "{:16}{:>12}{:>12}{:>9}  {:8}{:>12}{:>12}{:>9}  {:8}{:>8}{:>8}"

_HEADER = _COLUMNS.format(
    "row", "ours, old ms", "new ms", "old/new", "", "peer, old ms", "new ms", "old/new", "", "ratio", "new"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="What changed between two results of bench/run.py.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (options.old, options.new))
    print("\n".join(report(old, new)))


def report(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The lines of the comparison: what differs between the machines, then every row that both results have."""
    lines = [f"{key}: {a} -> {b}" for key, a, b in _settings(old, new) if a != b]
    rows = {figures["row"]: figures for figures in old.get("rows", [])}
    common = [figures for figures in new.get("rows", []) if figures["row"] in rows]
    if not common:
        return [*lines, "no row in common"]
    return [*lines, _HEADER, *(_line(rows[figures["row"]], figures) for figures in common)]


def _settings(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What a figure depends on besides the code."""
    names = ("cpu", "cores", "system", "python", "packages", "revision")
    return [
        *((name, old["machine"].get(name), new["machine"].get(name)) for name in names),
        *((name, old.get(name), new.get(name)) for name in ("threads", "quick")),
    ]


def _line(old: dict[str, Any], new: dict[str, Any]) -> str:
    ours = _change(old["seconds"]["minimeta"], new["seconds"]["minimeta"])
    peers = [figures["seconds"].get(figures["fastest_peer"]) for figures in (old, new)]
    peer = ("", "", "", "") if None in peers else _change(*peers)
    ratios = ["" if figures["ratio"] is None else f"{figures['ratio']:.2f}" for figures in (old, new)]
    return _COLUMNS.format(new["row"], *ours, *peer, *ratios).rstrip()


def _change(old: dict[str, float], new: dict[str, float]) -> tuple[str, str, str, str]:
    """Both medians in ms, how many times faster it became, and in a word whether that is more than noise."""
    gain = old["median"] / new["median"]
    apart = old["low"] > new["high"] or new["low"] > old["high"]
    verdict = "" if not apart or 1 / 1.05 < gain < 1.05 else "faster" if gain > 1 else "slower"
    return table.milliseconds(old["median"]), table.milliseconds(new["median"]), f"{gain:.2f}", verdict


if __name__ == "__main__":
    main()

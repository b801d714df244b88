"""The table of races, line by line as they end."""

from __future__ import annotations

from typing import Any

_COLUMNS = "{:5}{:44}{:>12}{:>12}  {:28}{:>7}{:>7}  {:6}{:>16}{:>8}"

HEADER = _COLUMNS.format("row", "", "ours ms", "peer ms", "fastest peer", "ratio", "reach", "", "effective", "limit")

NOTES = """\
medians of alternating runs, ~ where the middle half of them spreads over a fifth; ratio: fastest peer / ours;
limit: the share of what the machine can do, its fastest matrix product or, where memory limits, its fastest copy"""


def line(figures: dict[str, Any]) -> str:
    """One row; without a peer the columns about it stay empty."""
    seconds, peer = figures["seconds"], figures["fastest_peer"]
    beside = ("", "", "", "")
    if peer is not None:
        verdict = _verdict(figures["ratio"], figures["reach"])
        beside = (_time(seconds[peer]), peer, f"{figures['ratio']:.2f}", verdict)
    peer_time, peer_name, ratio, verdict = beside
    return _COLUMNS.format(
        figures["row"], figures["title"], _time(seconds[figures["ours"]]), peer_time, peer_name, ratio,
        f"{figures['reach']:g}", verdict, _rate(figures), f"{figures['share_of_limit']:.0%}",
    )  # fmt: skip


_GPU_COLUMNS = "{:5}{:44}{:>12} {:6}{:>22}{:>22}{:>22}{:>16}{:>8}  {}"

GPU_HEADER = _GPU_COLUMNS.format(
    "row", "", "ours ms", "", "eager ms (ratio)", "vmap ms (ratio)", "graph ms (ratio)", "effective", "limit", "goals"
).rstrip()


def gpu_line(figures: dict[str, Any]) -> str:
    """One row of the GPU bench: ours at its best, the fastest of each kind of peer, goals, and who was left out."""
    ours, ratios = figures["seconds"][figures["ours"]], figures["ratios"]
    peers = {kind: f"{milliseconds(ratio * ours['median'])} ({ratio:.2f})" for kind, ratio in ratios.items()}
    goals = (f"{kind} {goal:g}x {_verdict(ratios.get(kind), goal)}" for kind, goal in figures["goals"].items())
    line = _GPU_COLUMNS.format(
        figures["row"], figures["title"], _time(ours), "graph" if figures["ours"].endswith("graph") else "",
        *(peers.get(kind, "") for kind in ("eager", "vmap", "graph")),
        _rate(figures), f"{figures['share_of_limit']:.0%}", ", ".join(goals),
    ).rstrip()  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for name, reason in figures["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    return line + "".join(f"\n     left out: {'; '.join(names)}: {reason[:100]}" for reason, names in reasons.items())


def _verdict(ratio: float | None, goal: float) -> str:
    return "not measured" if ratio is None else "ok" if ratio >= goal else "below"


def _time(seconds: dict[str, float]) -> str:
    noisy = seconds["high"] - seconds["low"] > 0.2 * seconds["median"]
    return ("~" if noisy else "") + milliseconds(seconds["median"])


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _rate(figures: dict[str, Any]) -> str:
    if figures["limited_by"] == "memory":
        return f"{figures['gbytes_per_second']:.3g} GB/s"
    return f"{figures['gflop_per_second']:.3g} GFLOP/s"

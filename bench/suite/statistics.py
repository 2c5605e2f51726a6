"""Medians of runs, and ratios of runs that lay side by side. Knows no server."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from suite.scenario import Ratio

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, min and max of the runs' values."""
    return {"median": round(statistics.median(values), 4), "min": min(values), "max": max(values)}


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the spread of each figure that every run has."""
    if not runs:
        return {}
    names = [
        name
        for name, value in runs[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool) and all(name in run for run in runs)
    ]
    return {name: spread([run[name] for run in runs]) for name in names}


def judge(ratio: Ratio, runs: Runs) -> dict[str, Any] | None:
    """Return a ratio's values run by run, their median, and whether it met its target; None when a side was not run.

    ``per_cpu`` is the median for what a second of the servers' CPU time gave: on a busy machine it says more than the rest.
    """
    values = _values(ratio.over, ratio.under, runs)
    if not values:
        return None
    median = statistics.median(values)
    target = f">= {ratio.at_least:g}" if ratio.at_least is not None else ""
    target = f"<= {ratio.at_most:g}" if ratio.at_most is not None else target
    met = (ratio.at_least is None or median >= ratio.at_least) and (ratio.at_most is None or median <= ratio.at_most)
    per_cpu = []
    if ratio.under and ratio.over[1] == ratio.under[1] and ratio.over[1].endswith("_per_s"):
        figure = ratio.over[1].replace("_per_s", "_per_cpu_s")
        per_cpu = _values((ratio.over[0], figure), (ratio.under[0], figure), runs)
    return {
        **spread(values),
        "runs": values,
        "per_cpu": statistics.median(per_cpu) if per_cpu else None,
        "target": target,
        "met": met,
    }


def _values(over: tuple[str, str], under: tuple[str, str] | None, runs: Runs) -> list[float]:
    above = _side(over, runs)
    below = _side(under, runs) if under else [1.0] * len(above)
    return [round(a / b, 4) for a, b in zip(above, below, strict=False) if b]


def _side(side: tuple[str, str], runs: Runs) -> list[float]:
    variant, figure = side
    return [run[figure] for run in runs.get(variant, ()) if figure in run]

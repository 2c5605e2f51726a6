"""The result as JSON and as a table: merges what was run now into what was there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from suite import statistics
from suite.scenario import TITLES, Scenario

Document = dict[str, Any]
#: Changed with the meaning of what is in the file.
FORMAT = 1
#: Of its core; a generator busier than that may be what was measured.
CLIENT_SHARE = 0.8


def load(path: Path) -> Document:
    """Return the results of earlier runs; a file of another form counts as none."""
    empty: Document = {"format": FORMAT, "scenarios": {}}
    try:
        found: Document = json.loads(path.read_text())
    except (OSError, ValueError):
        return empty
    return found if found.get("format") == FORMAT else empty


def entry(
    scenario: Scenario,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    failures: Mapping[str, str],
    before: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> Document:
    """Return a scenario's part of the document.

    Args:
        before: its part of an earlier document; variants that were not run now are kept from it, and then said not to have
            been interleaved.
        facts: the machine's, at the time.
    """
    names = [variant.name for variant in scenario.variants]
    kept = before.get("runs", {})
    all_runs: dict[str, Sequence[Mapping[str, Any]]] = {
        name: runs.get(name) or kept[name]
        for name in names
        if runs.get(name) or (name in kept and name not in failures)
    }
    ratios = {}
    for ratio in scenario.ratios:
        judged = statistics.judge(ratio, all_runs)
        if judged is not None:
            sides = {side[0] for side in (ratio.over, ratio.under) if side}
            ratios[ratio.name] = {**judged, "interleaved": len({side in runs for side in sides}) == 1}
    return {
        "title": scenario.title,
        "figures": list(scenario.figures),
        "machine": dict(facts),
        "ratios": ratios,
        "failures": dict(failures),
        "medians": {name: statistics.medians(found) for name, found in all_runs.items()},
        "runs": all_runs,
    }


def write(document: Document, json_path: Path, table_path: Path) -> None:
    """Write both files, each complete or not at all."""
    for path, text in ((json_path, json.dumps(document, indent=1) + "\n"), (table_path, table(document))):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text)
        fresh.replace(path)


def table(document: Document, only: Sequence[str] | None = None) -> str:
    """Return the document as Markdown that also reads well in a terminal."""
    lines: list[str] = []
    names = [name for name in document["scenarios"] if only is None or name in only]
    for name in names:
        lines += _scenario(name, document["scenarios"][name])
    lines += _ratios([document["scenarios"][name] for name in names])
    return "\n".join(lines) + "\n"


def _scenario(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    figures = part["figures"]
    wide = max((len(variant) for variant in part["runs"]), default=4)
    heads = [TITLES.get(figure, figure) for figure in figures]
    yield f"## {name}: {part['title']}"
    yield ""
    by_delivery = "deliveries_per_s" in figures
    rows = []
    for variant, medians in part["medians"].items():
        cells = [_spread(medians.get(figure)) for figure in figures]
        cells += [_one(medians.get(f"{who}_busy")) for who in ("server", "client", "other_core")]
        if medians.get("client_busy", {"median": 0})["median"] > CLIENT_SHARE:
            cells[-2] += " too much"
        cells.append(_value(medians.get("deliveries_per_cpu_s" if by_delivery else "sends_per_cpu_s")))
        rows.append([variant.ljust(wide), *cells])
    per_cpu = f"{'deliveries' if by_delivery else 'sends'} a CPU s"
    heads = ["", *heads, "server CPU", "client CPU", "core 1 busy", per_cpu]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in (heads, ["-" * width for width in widths], *rows):
        yield "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    for variant, why in part["failures"].items():
        yield f"\nFAILED {variant}: {why}"
    yield ""


def _ratios(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    found = [(name, ratio) for part in parts for name, ratio in part["ratios"].items()]
    if not found:
        return
    yield "## Ratios"
    yield ""
    rows = [["", "median", "min-max", "per server CPU s", "target", ""]]
    for name, ratio in found:
        verdict = ("ok" if ratio["met"] else "MISSED") if ratio["target"] else ""
        aside = "" if ratio["interleaved"] else " (not interleaved)"
        between = f"{number(ratio['min'])}-{number(ratio['max'])}"
        per_cpu = number(ratio["per_cpu"]) if ratio["per_cpu"] else ""
        rows.append([name, number(ratio["median"]), between, per_cpu, ratio["target"], verdict + aside])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in (rows[0], ["-" * width for width in widths], *rows[1:]):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def complaints(document: Document, names: Sequence[str]) -> list[str]:
    """Return a sentence for every failure and every missed target of these scenarios."""
    found = []
    for name in names:
        part = document["scenarios"].get(name, {"failures": {}, "ratios": {}})
        found += [f"{name}: {variant} failed: {why}" for variant, why in part["failures"].items()]
        found += [
            f"{ratio}: {number(judged['median'])}, and the target is {judged['target']}"
            for ratio, judged in part["ratios"].items()
            if not judged["met"]
        ]
    return found


def number(value: float) -> str:
    """Return a number with three significant digits, or whole with separators when it is large."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _spread(found: Mapping[str, float] | None) -> str:
    return f"{number(found['median'])} ({number(found['min'])}-{number(found['max'])})" if found else "-"


def _one(found: Mapping[str, float] | None) -> str:
    return f"{found['median']:.0%}" if found else "-"


def _value(found: Mapping[str, float] | None) -> str:
    return number(found["median"]) if found else "-"

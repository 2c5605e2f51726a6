"""Runs one scenario: starts its servers, lets them take turns, and goes on when one of them fails."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from harness.process import DaemonError
from suite import machine
from suite.native import Figures, LoadError
from suite.report import number
from suite.scenario import TITLES, Scenario, Variant
from suite.site import Site

#: What a variant may fail with; anything else is a mistake of ours and ends the benchmark.
FAILURES = (LoadError, DaemonError, AssertionError, OSError, subprocess.SubprocessError)


def run_scenario(
    site: Site,
    scenario: Scenario,
    variants: Sequence[Variant],
    *,
    runs: int,
    seconds: float | None,
    say: Callable[[str], None],
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """Return the runs of each variant, and why variants failed.

    Args:
        runs: of each variant; in each the variants take turns, another one first each time.
        seconds: of each run; None is the scenario's own.
    """
    runs = min(runs, scenario.most_runs)
    results: dict[str, list[Figures]] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        servers: dict[str, Any] = {}

        def guarded(variant: Variant, work: Callable[[], Any]) -> Any:
            try:
                return work()
            except FAILURES as error:
                failures[variant.name] = _sentence(error)
                say(f"  {variant.name}: FAILED: {failures[variant.name]}")
                return None

        def start(variant: Variant) -> None:
            servers[variant.name] = guarded(variant, lambda: scenario.start(site, variant, stack))

        def measure(variant: Variant, index: int) -> None:
            server = servers[variant.name]
            figures = guarded(variant, lambda: scenario.measure(site, variant, server, seconds))
            pid = scenario.pid(server)
            if pid is not None:
                machine.settle(pid)
            if figures is not None:
                results.setdefault(variant.name, []).append(figures)
                shown = (
                    f"{number(figures[name])} {TITLES.get(name, name)}" for name in scenario.figures if name in figures
                )
                say(f"  {index + 1}/{runs} {variant.name}: {', '.join(shown)}")

        for variant in variants:
            start(variant)
        for index in range(runs):
            turn = index % len(variants)
            for variant in (*variants[turn:], *variants[:turn]):
                if variant.name not in failures:
                    measure(variant, index)
    return results, failures


def _sentence(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, subprocess.CalledProcessError):
        text += f" {error.stderr or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"[:500]

"""The command line: ``python -m suite``, started by scripts/bench."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from suite import machine, report
from suite.catalogue import SCENARIOS
from suite.places import BUILD, CLIENT_CORE, PROJECT
from suite.runner import run_scenario
from suite.scenario import Scenario
from suite.site import site

EPILOG = """
The targets are for a quiet machine with two cores: nothing else may run. Exit status 1 means that a target was missed or that
something failed; the last lines say which. Figures also go to build/bench.json and build/bench.md, where scenarios that were not
run now keep what they were. With --peers, what was not run now is compared from the file, and said not to be interleaved.
"""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the chat side by side with others on this machine (bench/README.md).",
        epilog=textwrap.dedent(EPILOG),
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and their servers, and run nothing")
    parser.add_argument("--only", default="", metavar="A,B", help="these scenarios")
    parser.add_argument("--peers", default="", metavar="A,B", help="these servers alone")
    parser.add_argument("--runs", type=int, default=5, help="of each server in each scenario (default: 5)")
    parser.add_argument("--seconds", type=float, help="of each run (default: the scenario's own, mostly 4)")
    parser.add_argument(
        "--src", type=Path, default=PROJECT / "app" / "src", metavar="DIR", help="the application's sources to measure"
    )
    parser.add_argument("--out", type=Path, default=BUILD, metavar="DIR", help="where bench.json and bench.md go")
    given = parser.parse_args(words)
    known = {scenario.name for scenario in SCENARIOS}
    kinds = {variant.kind for scenario in SCENARIOS for variant in scenario.variants}
    for option, allowed in (("only", known), ("peers", kinds)):
        names = [name for name in getattr(given, option).split(",") if name]
        unknown = [name for name in names if name not in allowed]
        if unknown:
            parser.error(f"--{option}: there is no {', '.join(unknown)}; there are {', '.join(sorted(allowed))}")
        setattr(given, option, names)
    if not (given.src / "hockey_hub_chat").is_dir():
        parser.error(f"--src: there is no hockey_hub_chat in {given.src}")
    if given.runs < 1:
        parser.error("--runs: at least 1")
    return given


def say(text: str) -> None:
    """Print a progress line at once."""
    print(text, flush=True)


def listing() -> str:
    """Return the scenarios and their servers."""
    lines = []
    for scenario in SCENARIOS:
        lines.append(f"{scenario.name:14} {scenario.title}")
        lines.append(f"{'':14}   {', '.join(variant.name for variant in scenario.variants)}")
    return "\n".join(lines)


def run_all(given: argparse.Namespace, scenarios: Sequence[Scenario]) -> report.Document:
    """Run scenarios, write the files after each, and return the document."""
    paths = given.out / "bench.json", given.out / "bench.md"
    document = report.load(paths[0])
    order = [scenario.name for scenario in SCENARIOS]
    with site(given.src.resolve()) as shared:
        for scenario in scenarios:
            variants = [variant for variant in scenario.variants if not given.peers or variant.kind in given.peers]
            if not variants:
                continue
            started = time.monotonic()
            say(f"{scenario.name}: {scenario.title}")
            facts = {**machine.facts(), "source": str(given.src)}
            runs, failures = run_scenario(shared, scenario, variants, runs=given.runs, seconds=given.seconds, say=say)
            before = document["scenarios"].get(scenario.name, {}) if given.peers else {}
            document["scenarios"][scenario.name] = report.entry(scenario, runs, failures, before, facts)
            document["scenarios"] = {
                name: document["scenarios"][name] for name in order if name in document["scenarios"]
            }
            report.write(document, *paths)
            say(f"  {time.monotonic() - started:.0f} s")
    return document


def main() -> int:
    """Run what is asked for; return the exit status."""
    given = arguments()
    if given.list:
        print(listing())
        return 0
    if (os.cpu_count() or 1) < 2:
        print("The benchmark needs two cores: one for what is measured, one for the rest.", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    scenarios = [scenario for scenario in SCENARIOS if not given.only or scenario.name in given.only]
    document = run_all(given, scenarios)
    names = [scenario.name for scenario in scenarios]
    print()
    print(report.table(document, names))
    wrong = report.complaints(document, names)
    for sentence in wrong:
        print(f"MISSED  {sentence}")
    return 1 if wrong else 0


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""``make faults``: many random faults under load, one after the other; after each the site must serve everybody again.

Judges by ``harness.checker``: acknowledged is stored, each message arrives once and in order at everyone, seqs are gapless,
nothing is stored that nobody sent. Everything random comes from one seed; moments, of course, are the machine's.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from campaign.kinds import KINDS, Scene, shuffled
from campaign.load import Load, Totals
from campaign.site import TwoNodes
from harness.process import tail

#: Seconds within which everybody must be heard once a fault is lifted. A send may wait 10 s for the database before it is
#: answered `unavailable` and sent again; clients wait up to a second before they reconnect.
BOUND = 30.0
#: Faults between two judgements.
CHECK_EVERY = 7

#: How often the next fault does not wait until everybody is heard again.
ON_ITS_HEELS = 0.15

BUILD = Path(__file__).parents[3] / "build" / "faults"


@dataclass
class Outcome:
    """A whole campaign."""

    seed: int
    wanted: int
    done: int = 0
    problems: list[str] = field(default_factory=list)
    #: what the servers logged that nothing we do excuses; no message is in danger, so the campaign goes on
    tracebacks: list[str] = field(default_factory=list)
    log_ends: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether everything was done and nothing found."""
        return not self.problems and not self.tracebacks and self.done == self.wanted

    def table(self) -> str:
        """Return a line per kind: how many, seconds until everybody was heard again (median and worst)."""
        lines = [f"{'kind':<16} {'count':>5} {'median s':>9} {'worst s':>8}"]
        for kind, count in sorted(self.counts.items()):
            took = self.recoveries.get(kind)
            figures = f"{statistics.median(took):>9.2f} {max(took):>8.2f}" if took else f"{'-':>9} {'-':>8}"
            lines.append(f"{kind:<16} {count:>5} {figures}")
        return "\n".join(lines)

    def __str__(self) -> str:
        lines = [self.table(), str(self.totals), f"{self.seconds:.0f} s, seed {self.seed}"]
        if self.problems:
            lines += [f"seed {self.seed}, fault {self.done + 1}:", *self.problems[:25], *self.log_ends]
        lines += self.tracebacks[:5]
        found = f"{len(self.problems)} problems, {len(self.tracebacks)} tracebacks in the logs of the servers"
        return "\n".join([*lines, f"{self.done} faults, {'clean' if self.clean else found}"])


class _Events:
    """One JSON object a line: what was done when."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", buffering=1)
        self._started = time.monotonic()

    def write(self, **event: Any) -> None:
        """Add one event."""
        self._file.write(json.dumps({"at": round(time.monotonic() - self._started, 3), **event}) + "\n")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def run(
    seed: int,
    faults: int,
    directory: Path,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    check_every: int = CHECK_EVERY,
    say: Callable[[str], object] = print,
) -> Outcome:
    """Run one campaign on daemons of its own.

    Args:
        faults: how many.
        directory: where ``events.jsonl`` and ``verdict.txt`` go.
        kinds: names out of ``KINDS``.
        check_every: faults between two judgements of the history.
        say: gets one line for each fault.
    """
    outcome = Outcome(seed, faults)
    started = time.monotonic()
    events = _Events(directory / "events.jsonl")
    events.write(seed=seed, faults=faults, kinds=list(kinds))
    try:
        with TwoNodes() as site:
            load = Load(site.servers, seed)
            outcome.totals = load.totals
            try:
                load.start()
                scene = Scene(site, load, random.Random(seed), BOUND)  # noqa: S311  # chance, not secrets
                _campaign(scene, outcome, list(kinds), check_every, events, say)
                if not outcome.problems:
                    outcome.problems += load.judge_all()
            except Exception as error:  # whatever it is: it is this campaign's finding, and the logs are still there
                outcome.problems.append(
                    f"{type(error).__name__}: {error}" + (f" ({error.__cause__})" * bool(error.__cause__))
                )
            finally:
                if not outcome.clean:
                    _keep_logs(site, outcome, directory)
                load.close()
    finally:
        outcome.seconds = time.monotonic() - started
        events.write(done=outcome.done, problems=outcome.problems)
        events.close()
        (directory / "verdict.txt").write_text(f"{outcome}\n")
    return outcome


def _campaign(
    scene: Scene, outcome: Outcome, kinds: list[str], check_every: int, events: _Events, say: Callable[[str], object]
) -> None:
    scene.load.roll_call(BOUND)
    read = [0 for _ in scene.site.servers]
    for number, kind in enumerate(islice(shuffled(kinds, scene.dice), outcome.wanted), 1):
        scene.load.spread()
        scene.a_while(0, 0.3)  # hits at any point of a message's way
        events.write(fault=number, kind=kind)
        detail = KINDS[kind](scene)
        events.write(lifted=number, detail=detail)
        outcome.counts[kind] += 1
        judged = number % check_every == 0 or number == outcome.wanted
        if not judged and scene.dice.random() < ON_ITS_HEELS:
            say(f"{number:>4}/{outcome.wanted} {kind:<16}      ...  {detail}")
            outcome.done = number
            continue
        took = scene.load.roll_call(scene.bound)
        events.write(heard=number, seconds=round(took, 3))
        outcome.recoveries.setdefault(kind, []).append(took)
        say(f"{number:>4}/{outcome.wanted} {kind:<16} {took:6.2f} s  {detail}")
        if judged:
            scene.see_off_guests()
            if number == outcome.wanted:
                scene.load.stop()
            outcome.problems += scene.load.checkpoint()
            outcome.tracebacks += _logged(scene, read)
            events.write(judged=number, problems=len(outcome.problems))
            if outcome.problems:
                return
        outcome.done = number


def _logged(scene: Scene, read: list[int]) -> list[str]:
    """Return the tracebacks the servers logged since the last look (``read``: characters, kept)."""
    found = []
    for index, server in enumerate(scene.site.servers):
        text = server.logs()
        fresh, read[index] = text[read[index] :], len(text)
        for line in fresh.splitlines():
            if "Traceback (most recent call last)" in line:
                found.append(f"in the log of {server.port}: " + line.replace("\\n", "\n")[:6000])
    return found


def _keep_logs(site: TwoNodes, outcome: Outcome, directory: Path) -> None:
    """Put the daemons' logs beside the verdict, and their ends into it when a message was in danger."""
    for daemon in (*site.servers, site.redis, site.postgres):
        (directory / f"{daemon.directory.name}.log").write_text(daemon.logs())
        if outcome.problems:
            outcome.log_ends.append(f"--- the end of {daemon.log_path}\n{tail(daemon.log_path, 15)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign the command line asks for; the status says whether it was clean."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__, allow_abbrev=False)
    parser.add_argument("--faults", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of everything random (default: a fresh one)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--check-every", type=int, default=CHECK_EVERY, help="faults between two judgements")
    args = parser.parse_args(argv)
    kinds = args.kinds.split(",")
    if unknown := set(kinds) - KINDS.keys():
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    directory = BUILD / str(seed)
    print(f"seed {seed}; events and verdict go to {directory}", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    outcome = run(seed, args.faults, directory, kinds=kinds, check_every=args.check_every, say=say)
    print(outcome)
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())

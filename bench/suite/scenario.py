"""What a scenario is: servers side by side under one load, and the ratios that are asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from suite import native, nginx, peers
from suite.native import Figures, Load
from suite.pgbench import Pgbench
from suite.places import CLIENT_CORE
from suite.site import Site

#: A figure's name in a run, and how it reads in the table.
TITLES = {
    "deliveries_per_s": "deliveries/s",
    "sends_per_s": "acked sends/s",
    "joins_per_s": "connections/s",
    "commits_per_s": "rows/s",
    "ack_p50_ms": "ack p50 ms",
    "ack_p99_ms": "ack p99 ms",
    "delivery_p50_ms": "delivery p50 ms",
    "delivery_p99_ms": "delivery p99 ms",
    "join_p50_ms": "join p50 ms",
    "idle_kib": "KiB a connection",
    "http_p50_ms": "HTTP p50 ms",
    "http_p99_ms": "HTTP p99 ms",
}


@dataclass(frozen=True)
class Variant:
    """One line of a scenario's table.

    Args:
        name: in the table and in ratios.
        kind: the server (see ``peers.start``); ``--peers`` names these; ``pgbench`` is none.
        server: options of the server; ``nginx`` puts one in front of it.
        load: what differs from the scenario's load.
    """

    name: str
    kind: str
    server: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)


def plain(*kinds: str) -> tuple[Variant, ...]:
    """Return a variant of each kind without options."""
    return tuple(Variant(kind, kind) for kind in kinds)


@dataclass(frozen=True)
class Ratio:
    """One variant's figure over another's, run by run.

    Args:
        over, under: variant and figure; ``under`` None compares the figure itself with the target.
        at_least, at_most: the target, if there is one.
    """

    name: str
    over: tuple[str, str]
    under: tuple[str, str] | None
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Scenario:
    """Every variant's server is started once, then they take turns.

    Args:
        figures: what the table shows of each run.
        ratios: what is computed from the runs.
        most_runs: enough of them for a curve or a profile.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    load: Load = field(default_factory=Load)
    figures: tuple[str, ...] = ("deliveries_per_s", "ack_p50_ms", "ack_p99_ms", "delivery_p99_ms")
    ratios: tuple[Ratio, ...] = ()
    most_runs: int = 1000

    def start(self, site: Site, variant: Variant, stack: ExitStack) -> Any:
        """Start a variant's server; the stack ends it."""
        load = self.load_of(variant, None)
        options = dict(variant.server)
        server: Any
        if variant.kind == "pgbench":
            return Pgbench(site, **options)
        behind_nginx = options.pop("nginx", False)
        server = peers.start(variant.kind, site, rooms=load.rooms, members=load.members, **options)
        if behind_nginx:
            server = nginx.behind(site, server)
        stack.callback(server.destroy)
        return server

    def pid(self, server: Any) -> int | None:
        """Return the process that must have come to rest before the next one's turn."""
        return server.target().watch["server"] if hasattr(server, "target") else None

    def load_of(self, variant: Variant, seconds: float | None) -> Load:
        """Return a variant's load, its length changed to ``seconds`` where that is given and something is measured."""
        load = replace(self.load, **variant.load)
        return replace(load, seconds=seconds) if seconds and load.seconds else load

    def measure(self, site: Site, variant: Variant, server: Any, seconds: float | None) -> Figures:
        """Run once.

        Raises:
            LoadError, DaemonError: it failed; the text says why.
        """
        load = self.load_of(variant, seconds)
        if isinstance(server, Pgbench):
            return server.run(load.seconds, load.body)
        return flat(native.run(site.workshop, server.target(), load))


def flat(result: Figures) -> Figures:
    """Return a result of the load generator with the figures of the table beside the rest."""
    named = {
        f"{kind}_{quantile}_ms": result[f"{kind}_ms"][quantile]
        for kind in ("ack", "delivery", "join")
        for quantile in ("p50", "p99")
        if result[f"{kind}_ms"]["count"]
    }
    cpu = sum(value for key, value in result["cpu_s"].items() if key not in ("postgres", "redis"))
    if result["seconds"]:
        named["client_busy"] = round(result["client_cpu_s"] / result["seconds"], 3)
        named["other_core_busy"] = result["cores_busy"][int(CLIENT_CORE)]
        named["server_busy"] = round(cpu / result["seconds"], 3)
    if cpu:
        named["deliveries_per_cpu_s"] = round(result["deliveries"] / cpu, 1)
        named["sends_per_cpu_s"] = round(result["sends"] / cpu, 1)
    return {**result, **named}

"""Scenarios that are more than one load on one server: memory of idle connections, HTTP beside a full hub, history."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from suite import machine, native, peers, web
from suite.native import Figures
from suite.scenario import Scenario, Variant, flat
from suite.site import Site

#: Of what the hub can do at most, how much it does while HTTP is measured; and the requests per second beside it.
BUSY_SHARE = 0.8
HTTP_RATE = 50.0
#: A history page, and how many are read.
PAGE_ROWS = 50
PAGES = 400
_SETTLE_SECONDS = 20.0


@dataclass(frozen=True)
class Idle(Scenario):
    """Memory of connections that do nothing: each run has a fresh server."""

    def start(self, site: Site, variant: Variant, stack: ExitStack) -> Any:
        """Start nothing yet."""
        return None

    def measure(self, site: Site, variant: Variant, server: Any, seconds: float | None) -> Figures:
        """Return KiB of proportional set size for each connection (the servers' processes, without the kernel's buffers)."""
        load = self.load_of(variant, seconds)
        fresh = peers.start(variant.kind, site, rooms=load.rooms, members=load.members, **variant.server)
        try:
            machine.settle(fresh.pid)
            before = machine.pss_bytes(machine.family(fresh.pid))
            with native.generator(site.workshop, fresh.target(), load) as run:
                run.wait_for("ready")
                after = _settled_pss(fresh.pid)
                run.tell("stop")
                joined = flat(run.wait_for("result"))
        finally:
            fresh.destroy()
        return {
            "idle_kib": round((after - before) / 1024 / load.connections, 3),
            "pss_before_mib": round(before / 2**20, 2),
            "pss_after_mib": round(after / 2**20, 2),
            "joins_per_s": joined["joins_per_s"],
        }


def _settled_pss(pid: int) -> int:
    """Return the memory once it no longer moves."""
    machine.settle(pid)
    deadline = time.monotonic() + _SETTLE_SECONDS
    before = machine.pss_bytes(machine.family(pid))
    while time.monotonic() < deadline:
        time.sleep(1)
        now = machine.pss_bytes(machine.family(pid))
        if abs(now - before) < 0.002 * before:
            return now
        before = now
    return before


@dataclass(frozen=True)
class HttpBeside(Scenario):
    """Requests on the worker whose hub is busy."""

    def start(self, site: Site, variant: Variant, stack: ExitStack) -> Any:
        """Start the server, with one more person who only reads over HTTP."""
        server: peers.Chat = super().start(site, variant, stack)
        site.add_reader(server.database_url, self.load.connections + 1, rooms=10)
        return server

    def measure(self, site: Site, variant: Variant, server: Any, seconds: float | None) -> Figures:
        """Find the most the hub can do, drive it at a share of that, and ask for the conversations meanwhile."""
        load = self.load_of(variant, seconds)
        most = flat(native.run(site.workshop, server.target(), replace(load, seconds=2)))
        machine.settle(server.pid)
        token = site.token(load.connections + 1)

        # A worker's first answers compile statements and open connections; what follows is what people wait for.
        web.times(server.port, token, ["/api/conversations"] * int(HTTP_RATE), rate=HTTP_RATE)

        def ask() -> Figures:
            requests = int(HTTP_RATE * (load.seconds - 0.5))
            return web.figures(web.times(server.port, token, ["/api/conversations"] * requests, rate=HTTP_RATE))

        driven = replace(load, rate=BUSY_SHARE * most["sends_per_s"])
        result = flat(native.run(site.workshop, server.target(), driven, during=ask))
        return {**result, "most_deliveries_per_s": most["deliveries_per_s"]}


@dataclass(frozen=True)
class History(Scenario):
    """Pages of history, at random places of conversations of several lengths; a variant's name is the length."""

    def start(self, site: Site, variant: Variant, stack: ExitStack) -> Any:
        """Start the server and fill its one room."""
        server = peers.start(variant.kind, site, rooms=1, members=10)
        stack.callback(server.destroy)
        assert isinstance(server, peers.Chat)
        site.fill(server.database_url, 1, int(variant.name))
        return server

    def measure(self, site: Site, variant: Variant, server: Any, seconds: float | None) -> Figures:
        """Read pages one after the other."""
        length = int(variant.name)
        dice = random.Random(length)  # noqa: S311  # the same places each time
        paths = [
            f"/api/conversations/1/messages?before_seq={dice.randint(PAGE_ROWS + 1, length)}&limit={PAGE_ROWS}"
            for _ in range(PAGES)
        ]
        token = site.token(1)
        web.times(server.port, token, paths[:20])
        return dict(web.figures(web.times(server.port, token, paths)))

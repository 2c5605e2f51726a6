"""Every scenario, in the order they are run, with the targets of a quiet machine."""

from __future__ import annotations

from dataclasses import replace

from suite.native import Load
from suite.places import BOTH_CORES
from suite.profile import Profile
from suite.scenario import Ratio, Scenario, Variant, plain
from suite.special import History, HttpBeside, Idle

DELIVERIES = "deliveries_per_s"
SENDS = "sends_per_s"
JOINS = "joins_per_s"
#: 50 senders, and 2 who only listen, in 13 rooms of 4.
FOURS = Load(rooms=13, members=4, senders=4, sender_limit=50, window=4)


def _fanout(members: int, at_least: float) -> Scenario:
    name = f"fanout_{members}"
    return Scenario(
        name,
        f"one room of {members}, one sender with 4 in flight",
        plain("hhc", "socketio", "ws", "flask_plain", "c-plain", "c-coalescing"),
        Load(members=members, window=4),
        ratios=(Ratio(f"{name}_vs_socketio_pg", ("hhc", DELIVERIES), ("socketio", DELIVERIES), at_least),),
    )


def _latency(suffix: str, title: str, load: Load) -> Scenario:
    return Scenario(
        f"latency_10k{suffix}",
        f"10,000 deliveries/s: {title}",
        plain("hhc", "socketio"),
        replace(load, seconds=6),
        figures=("delivery_p50_ms", "delivery_p99_ms", "ack_p50_ms", "ack_p99_ms", DELIVERIES),
        ratios=tuple(
            Ratio(
                f"{name}_{quantile}_vs_socketio_pg{suffix}",
                ("hhc", f"{figure}_{quantile}_ms"),
                ("socketio", f"{figure}_{quantile}_ms"),
                at_most=at_most,
            )
            for name, figure, at_most in (("latency", "ack", 0.7), ("delivery", "delivery", None))
            for quantile in ("p50", "p99")
        ),
    )


def _workers(name: str, title: str, load: Load, most: int = 2, at_least: float | None = None, **env: str) -> Scenario:
    return Scenario(
        name,
        f"{title}, the client on both cores",
        (
            Variant("1 worker", "hhc", {"env": env}),
            *(
                Variant(f"{n} workers", "hhc", {"workers": n, "cores": BOTH_CORES, "env": env})
                for n in range(2, most + 1)
            ),
        ),
        replace(load, lazy_ms=30, cores=BOTH_CORES),
        figures=(DELIVERIES, SENDS, "ack_p50_ms", "ack_p99_ms"),
        ratios=(Ratio(f"{name}_vs_one", ("2 workers", DELIVERIES), ("1 worker", DELIVERIES), at_least),),
    )


SCENARIOS: tuple[Scenario, ...] = (
    _fanout(100, 3),
    _fanout(1000, 4),
    Scenario(
        "burst_1000",
        "one room of 1,000, one sender with 32 in flight",
        plain("hhc", "socketio", "c-coalescing", "c-plain"),
        Load(members=1000, window=32),
        ratios=(
            Ratio("burst_vs_c_coalescing", ("hhc", DELIVERIES), ("c-coalescing", DELIVERIES), 0.5),
            Ratio("burst_vs_socketio_pg", ("hhc", DELIVERIES), ("socketio", DELIVERIES)),
        ),
    ),
    Scenario(
        "plain_1000",
        "one room of 1,000, 4 in flight, one send for each socket and message",
        (Variant("hhc", "hhc", {"env": {"REALTIME_COALESCE": "false"}}), *plain("c-plain")),
        Load(members=1000, window=4),
        ratios=(Ratio("uncoalesced_vs_c_plain", ("hhc", DELIVERIES), ("c-plain", DELIVERIES), 0.7),),
    ),
    Scenario(
        "nginx_1000",
        "one room of 1,000, 4 in flight, TLS 1.3 through nginx on the server's core",
        (
            Variant("hhc", "hhc", {"nginx": True, "unix_socket": True}),
            Variant("socketio", "socketio", {"nginx": True, "unix_socket": True}),
            Variant("socketio over TCP", "socketio", {"nginx": True}),
        ),
        Load(members=1000, window=4),
        ratios=(Ratio("fanout_nginx_vs_socketio_nginx", ("hhc", DELIVERIES), ("socketio", DELIVERIES), 3),),
    ),
    Scenario(
        "durable",
        "50 senders with 4 in flight each, in rooms of 4",
        (
            *plain("hhc", "socketio"),
            Variant("pgbench", "pgbench", {"clients": 50}),
            Variant("pgbench, 50 rows", "pgbench", {"clients": 50, "rows": 50}),
        ),
        FOURS,
        figures=(SENDS, "ack_p50_ms", "ack_p99_ms"),
        ratios=(
            Ratio("durable_vs_socketio_pg", ("hhc", SENDS), ("socketio", SENDS), 3),
            Ratio("durable_vs_pgbench", ("hhc", SENDS), ("pgbench", SENDS), 1.1),
        ),
    ),
    _latency("", "50 senders in rooms of 4, 2,500 sends/s on a schedule", replace(FOURS, rate=2500)),
    _latency("_room100", "one room of 100, 100 sends/s on a schedule", Load(members=100, rate=100)),
    _latency("_room1000", "one room of 1,000, 10 sends/s on a schedule", Load(members=1000, rate=10)),
    Scenario(
        "lone",
        "one sender with one in flight, nobody else",
        (*plain("hhc", "socketio"), Variant("pgbench", "pgbench", {"clients": 1})),
        Load(window=1),
        figures=("ack_p50_ms", "ack_p99_ms", SENDS),
        ratios=(Ratio("lone_ack_vs_bare_commit", ("hhc", "ack_p50_ms"), ("pgbench", "ack_p50_ms"), at_most=3),),
    ),
    Idle(
        "idle_10000",
        "10,000 connections that do nothing",
        plain("hhc", "socketio"),
        Load(rooms=1000, members=10, senders=0, seconds=0, stay=True),
        figures=("idle_kib", "joins_per_s"),
        ratios=(Ratio("idle_memory_vs_socketio", ("hhc", "idle_kib"), ("socketio", "idle_kib"), at_most=0.25),),
    ),
    Scenario(
        "joins",
        "3,000 connections, 50 handshakes in flight",
        (
            Variant("hhc to hello", "hhc", load={"until_hello": True}),
            Variant("hhc to resumed", "hhc"),
            Variant("socketio", "socketio"),
        ),
        Load(rooms=300, members=10, senders=0, seconds=0),
        figures=("joins_per_s", "join_p50_ms", "join_p99_ms"),
        ratios=(
            Ratio("joins_vs_socketio", ("hhc to hello", JOINS), ("socketio", JOINS), 1),
            Ratio("joins_resumed_vs_socketio", ("hhc to resumed", JOINS), ("socketio", JOINS)),
        ),
    ),
    _workers(
        "two_workers",
        "one room of 1,000, two senders with 8 in flight each",
        Load(members=1000, senders=2, window=8),
        most=4,
    ),
    _workers(
        "two_workers_plain",
        "the same, one send for each socket and message",
        Load(members=1000, senders=2, window=8),
        at_least=1.7,  # here the worker is what limits; with coalescing the client and the daemons want the second core too
        REALTIME_COALESCE="false",
    ),
    _workers(
        "two_workers_rooms", "10 rooms of 100, in each a sender with 4 in flight", Load(rooms=10, members=100, window=4)
    ),
    HttpBeside(
        "http_beside",
        "GET /api/conversations on a worker that fans out 80 % of what it can",
        plain("hhc"),
        Load(members=1000, window=32, seconds=6),
        figures=("http_p50_ms", "http_p99_ms", DELIVERIES),
        ratios=(Ratio("http_p99_ms", ("hhc", "http_p99_ms"), None, at_most=100),),
    ),
    Scenario(
        "curve_members",
        "one room of more and more, one sender with 4 in flight",
        tuple(Variant(f"members: {n:,}", "hhc", load={"members": n}) for n in (100, 1000, 5000, 10_000)),
        Load(window=4),
        most_runs=2,
    ),
    Scenario(
        "curve_rooms",
        "more and more rooms of 10, each with a sender with 4 in flight",
        tuple(Variant(f"rooms: {n:,}", "hhc", load={"rooms": n}) for n in (1, 10, 100, 1000)),
        Load(members=10, window=4),
        figures=(DELIVERIES, SENDS, "ack_p50_ms", "ack_p99_ms"),
        most_runs=2,
    ),
    History(
        "curve_history",
        "pages of 50 at random places of a conversation with so many messages",
        tuple(Variant(str(length), "hhc") for length in (10_000, 100_000, 1_000_000)),
        figures=("http_p50_ms", "http_p99_ms"),
        most_runs=2,
    ),
    Profile(
        "profile",
        "where a worker's time goes (build/bench-profile.txt)",
        (
            Variant("profile of fanout_1000", "hhc", load={"members": 1000, "window": 4}),
            Variant("profile of durable", "hhc", load=vars(FOURS)),
            Variant("profile of latency_10k", "hhc", load=vars(replace(FOURS, rate=2500))),
        ),
        Load(seconds=6),
        figures=(DELIVERIES, SENDS),
        most_runs=1,
    ),
)

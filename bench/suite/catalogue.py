"""Every scenario, in the order they are run, with the targets of a quiet machine."""

from __future__ import annotations

from suite.native import Load
from suite.scenario import Ratio, Scenario, Variant, plain

DELIVERIES = "deliveries_per_s"


def _fanout(members: int, at_least: float) -> Scenario:
    name = f"fanout_{members}"
    return Scenario(
        name,
        f"one room of {members}, one sender with 4 in flight",
        plain("hhc", "socketio", "ws", "flask_plain", "c-plain", "c-coalescing"),
        Load(members=members, window=4),
        ratios=(Ratio(f"{name}_vs_socketio_pg", ("hhc", DELIVERIES), ("socketio", DELIVERIES), at_least),),
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
)

"""A short piece of ``make soak``, and its judge."""

from __future__ import annotations

import pytest

from campaign.soak import Plan, Sample, judge_memory, run
from harness.talk import new_seed


def test_two_hundred_sockets_that_come_and_go_leave_nothing_behind() -> None:
    plan = Plan(connections=200, seconds=10, churn=10, seed=new_seed(), heartbeat_seconds=2, sample_seconds=1)
    report = run(plan)
    print(report)
    assert not report.problems, report.problems[:10]
    assert report.reopened > 20 and report.acked > 20, "nobody came, went or spoke"
    assert len(report.club_seconds) == report.club > 0, "a message to the club was not followed to the last member"


def samples(*mib: float, seconds: float = 10) -> list[Sample]:
    """Return samples with these memories, one every ``seconds``."""
    return [Sample(n * seconds, 0, 0, 0, 0, 0, int(size * 2**20), 0, 0.0) for n, size in enumerate(mib)]


def test_memory_that_settles_is_no_leak() -> None:
    growth, problems = judge_memory(samples(100, 150, 190, 199, *[200.0 + n % 3 for n in range(40)]))
    assert not problems
    assert abs(growth) < 2**20


@pytest.mark.parametrize("mib_a_minute", [0.7, 5])
def test_memory_that_keeps_growing_is_a_leak(mib_a_minute: float) -> None:
    growth, problems = judge_memory(samples(*[200 + n * mib_a_minute / 6 for n in range(60)]))
    assert problems
    assert growth == pytest.approx(10 * mib_a_minute * 2**20, rel=0.05)

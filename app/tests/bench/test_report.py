"""The benchmark's arithmetic: ratios run by run, what is kept of earlier runs, and what counts as missed."""

from __future__ import annotations

import json
from pathlib import Path

from suite import report, statistics
from suite.scenario import Ratio, Scenario, plain

RATE = "deliveries_per_s"
RATIO = Ratio("ours_vs_theirs", ("ours", RATE), ("theirs", RATE), at_least=2)
SCENARIO = Scenario("fanout", "a room", plain("ours", "theirs"), figures=(RATE,), ratios=(RATIO,))


def runs(*values: float) -> list[dict[str, float]]:
    """Return runs with these deliveries per second, each at half a core."""
    return [{RATE: value, "deliveries_per_cpu_s": value * 2} for value in values]


def test_a_ratio_is_the_median_of_the_runs_own_ratios() -> None:
    # the ratio of the medians would be 20 / 10: a slow moment of the machine hits the two sides of one run alike
    judged = statistics.judge(RATIO, {"ours": runs(20, 90, 5), "theirs": runs(10, 30, 5)})
    assert judged is not None
    assert (judged["runs"], judged["median"], judged["per_cpu"], judged["met"]) == ([2, 3, 1], 2, 2, True)


def test_a_target_below_is_missed_above() -> None:
    ratio = Ratio("ours_vs_theirs", ("ours", RATE), ("theirs", RATE), at_most=0.7)
    judged = statistics.judge(ratio, {"ours": runs(8), "theirs": runs(10)})
    assert judged is not None
    assert (judged["target"], judged["met"]) == ("<= 0.7", False)


def test_a_side_that_was_not_run_has_no_ratio() -> None:
    assert statistics.judge(RATIO, {"ours": runs(1)}) is None


def test_what_was_not_run_now_is_kept_and_said_not_to_be_interleaved() -> None:
    before = report.entry(SCENARIO, {"ours": runs(10), "theirs": runs(10)}, {}, {}, {})
    assert before["ratios"]["ours_vs_theirs"]["interleaved"]
    now = report.entry(SCENARIO, {"ours": runs(30)}, {}, before, {})
    ratio = now["ratios"]["ours_vs_theirs"]
    assert (ratio["median"], ratio["interleaved"]) == (3, False)


def test_a_failure_now_is_not_hidden_by_what_was_before() -> None:
    before = report.entry(SCENARIO, {"ours": runs(30), "theirs": runs(10)}, {}, {}, {})
    now = report.entry(SCENARIO, {"theirs": runs(10)}, {"ours": "It was closed."}, before, {})
    assert now["ratios"] == {}
    document = {"format": report.FORMAT, "scenarios": {"fanout": now}}
    assert "FAILED ours: It was closed." in report.table(document)
    assert report.complaints(document, ["fanout"]) == ["fanout: ours failed: It was closed."]


def test_a_missed_target_is_named() -> None:
    part = report.entry(SCENARIO, {"ours": runs(10), "theirs": runs(10)}, {}, {}, {})
    document = {"format": report.FORMAT, "scenarios": {"fanout": part}}
    assert report.complaints(document, ["fanout"]) == ["ours_vs_theirs: 1, and the target is >= 2"]
    assert "MISSED" in report.table(document)


def test_the_files_hold_what_was_written_and_a_strange_one_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    document = report.load(path)
    document["scenarios"]["fanout"] = report.entry(SCENARIO, {"ours": runs(30), "theirs": runs(10)}, {}, {}, {})
    report.write(document, path, tmp_path / "bench.md")
    assert report.load(path) == document
    assert "| ours_vs_theirs | 3 " in (tmp_path / "bench.md").read_text()
    path.write_text(json.dumps({"format": 0, "scenarios": {"old": {}}}))
    assert report.load(path)["scenarios"] == {}


def test_a_generator_that_may_be_the_bottleneck_is_named() -> None:
    busy = [{RATE: 10.0, "client_busy": 0.9}]
    part = report.entry(SCENARIO, {"ours": busy, "theirs": runs(10)}, {}, {}, {})
    document = {"format": report.FORMAT, "scenarios": {"fanout": part}}
    assert report.table(document).count("90% too much") == 1

"""Observing many values at once counts what observing each would have counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hockey_hub_chat

# In a process of its own: prometheus_client decides about its mode when it is imported.
PROGRAM = """
from prometheus_client import CollectorRegistry, Histogram
from hockey_hub_chat import metrics

bounds = (0.001, 0.01, 0.1, 1.0)
each, many = (Histogram(name, "x", buckets=bounds, registry=CollectorRegistry()) for name in ("each", "many"))
for values in ([], [0.001, 0.0009, 0.05, 5.0, 1.0], [0.2] * 50):
    for value in values:
        each.observe(value)
    metrics.observe_many(many, values)
shown = [[(sample.name.removeprefix(name), sample.labels.get("le"), round(sample.value, 9)) for metric in histogram.collect()
          for sample in metric.samples if not sample.name.endswith("_created")] for name, histogram in (("each", each), ("many", many))]
assert shown[0] == shown[1] and ("_count", None, 55.0) in shown[0], shown
"""


@pytest.mark.parametrize("mode", ["one process", "several processes"])
def test_many_observations_count_like_each(mode: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(hockey_hub_chat.__file__).resolve().parents[1])}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    if mode == "several processes":
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert bool(list(tmp_path.iterdir())) == (mode == "several processes")

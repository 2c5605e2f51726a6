"""A client of the HTTP API that keeps to a schedule: a late answer makes the next requests late, and that is counted."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable

from suite.native import LoadError


def times(port: int, token: str, paths: Iterable[str], *, rate: float = 0) -> list[float]:
    """GET each path on one kept connection and return how many milliseconds each took, sorted.

    Args:
        rate: requests per second; a request's time runs from when it should have been sent. 0 asks as soon as it was answered.

    Raises:
        LoadError: an answer was not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took = []
    began = time.perf_counter()
    for number, path in enumerate(paths):
        due = began + number / rate if rate else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.request("GET", path, headers={"Cookie": f"hhc_access={token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise LoadError(f"GET {path} was answered with {answer.status}: {body[:200]!r}")
        took.append((time.perf_counter() - due) * 1000)
    connection.close()
    return sorted(took)


def figures(took: list[float]) -> dict[str, float]:
    """Return the figures of the table."""
    return {
        "http_p50_ms": round(took[len(took) // 2], 3),
        "http_p99_ms": round(took[len(took) * 99 // 100], 3),
        "http_max_ms": round(took[-1], 3),
        "http_requests": float(len(took)),
    }

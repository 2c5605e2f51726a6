"""A client of the HTTP API: one person after the other, or many who keep to a schedule and do not wait for each other."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

from suite.native import LoadError

#: Connections of those who keep to a schedule: past so many unanswered requests the next ones are late, and that is counted.
CONNECTIONS = 16


def times(port: int, token: str, paths: Iterable[str], *, rate: float = 0) -> list[float]:
    """GET each path and return how many milliseconds each took, sorted.

    Args:
        rate: requests per second, each on a free one of ``CONNECTIONS`` kept connections; a request's time runs from when it should
            have been sent. 0 asks on one connection, as soon as it was answered.

    Raises:
        LoadError: an answer was not 200.
    """
    with _connections(port, CONNECTIONS if rate else 1) as free:

        def ask(path: str, due: float) -> float:
            connection = free.get()
            try:
                _get(connection, token, path)
            finally:
                free.put(connection)
            return (time.perf_counter() - due) * 1000

        if not rate:
            return sorted(ask(path, time.perf_counter()) for path in paths)
        began = time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as askers:
            asked = []
            for number, path in enumerate(paths):
                due = began + number / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                asked.append(askers.submit(ask, path, due))
            return sorted(one.result() for one in asked)


@contextmanager
def _connections(port: int, count: int) -> Iterator[SimpleQueue[http.client.HTTPConnection]]:
    every = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(count)]
    free: SimpleQueue[http.client.HTTPConnection] = SimpleQueue()
    for connection in every:
        free.put(connection)
    try:
        yield free
    finally:
        for connection in every:
            connection.close()


def _get(connection: http.client.HTTPConnection, token: str, path: str) -> None:
    connection.request("GET", path, headers={"Cookie": f"hhc_access={token}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise LoadError(f"GET {path} was answered with {answer.status}: {body[:200]!r}")


def figures(took: list[float]) -> dict[str, float]:
    """Return the figures of the table."""
    return {
        "http_p50_ms": round(took[len(took) // 2], 3),
        "http_p99_ms": round(took[len(took) * 99 // 100], 3),
        "http_max_ms": round(took[-1], 3),
        "http_requests": float(len(took)),
    }

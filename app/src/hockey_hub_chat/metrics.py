"""Every metric of the application, under the names the dashboards and alerts use; a metric belongs here and nowhere else.

Several workers answer for one service: with ``PROMETHEUS_MULTIPROC_DIR`` in the environment (the gunicorn configuration sees
to it before the workers start) each worker writes its own memory-mapped files there, and ``exposition`` adds them up.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

MULTIPROC_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: The latency budget is tens of milliseconds, so the buckets start at one.
_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

MESSAGES_SENT = Counter("chat_messages_sent_total", "Messages committed, retries not counted.", ["type"])
ACKS = Counter("chat_acks_total", "Sends answered with an ack, retries included.")
CONNECTIONS_ACTIVE = Gauge("chat_websocket_connections_active", "Open sockets.", multiprocess_mode="livesum")
MESSAGE_SECONDS = Histogram(
    "chat_message_processing_duration_seconds", "From reading a send to its ack.", buckets=_LATENCY_BUCKETS
)
HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
RESUMES = Counter("chat_resumes_total", "Resumes completed.")
GAPS_REFILLED = Counter("chat_gaps_refilled_total", "Times a room was refilled from the database.")
SLOW_CONSUMERS_CLOSED = Counter("chat_slow_consumers_closed_total", "Sockets closed because they read too slowly.")
BUS_PUBLISHED = Counter("chat_bus_published_total", "Events published on the bus.")
BUS_BATCH_SIZE = Histogram("chat_bus_batch_size", "Events in one publish.", buckets=_BATCH_BUCKETS)
WRITER_QUEUE_DEPTH = Gauge(
    "chat_writer_queue_depth", "Messages left waiting when a batch was committed.", multiprocess_mode="livesum"
)
WRITER_BATCH_SIZE = Histogram("chat_writer_batch_size", "Messages in one transaction.", buckets=_BATCH_BUCKETS)
LOGIN_FAILURES = Counter("chat_login_failures_total", "Refused log-ins.")
RATE_LIMITED = Counter("chat_rate_limited_total", "Requests refused for coming too fast.", ["kind"])
# A labelled metric shows from its first sample on; a rate needs the zero before it.
TEXTS_SENT = MESSAGES_SENT.labels(type="text")
for _kind in ("message", "login", "http"):
    RATE_LIMITED.labels(kind=_kind)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def observe_many(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe many values for the price of a few: one write a bucket that they fall into.

    The library has no such call, and in multiprocess mode each ``observe`` writes twice to a mapped file under a lock. Reaches into
    the histogram (its buckets are not cumulative, as ``Histogram.observe`` has them); ``tests/unit`` compares both.

    Args:
        histogram: one without labels, or a child.
    """
    if not values:
        return
    histogram._sum.inc(sum(values))
    bounds = histogram._upper_bounds
    for bucket, count in Tally([bisect_left(bounds, value) for value in values]).items():
        histogram._buckets[bucket].inc(count)


def exposition() -> bytes:
    """Return all metrics of all workers in Prometheus' text format."""
    if os.environ.get(MULTIPROC_DIR_VARIABLE):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY)

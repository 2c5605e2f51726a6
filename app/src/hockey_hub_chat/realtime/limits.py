"""How often somebody may do something: one token bucket per (kind, key), shared by all workers through Redis.

A bucket holds ``limit`` tokens and refills at ``limit`` per ``window``; it is kept as one number, the *theoretical arrival
time* of the generic cell rate algorithm (ITU-T I.371, annex A). While Redis is away each worker counts for itself: refusing
everybody would turn a small failure into a large one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import gevent
import redis
import structlog

from hockey_hub_chat import metrics
from hockey_hub_chat.errors import RateLimitedError

log = structlog.get_logger(__name__)

PREFIX = "hhc:limit:"
#: Buckets one worker keeps for itself; the one unused longest goes first.
MAX_LOCAL_BUCKETS = 100_000
#: After a failure Redis is left alone for so long, or a dead one would add its timeout to every message.
REST_SECONDS = 3.0

# KEYS[1] bucket; ARGV: milliseconds per token, tokens, cost (negative: give back). Answers milliseconds to wait, 0 = granted.
_LUA = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local per, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local new = tat + per * cost
local wait = new - now - per * burst
if wait > 0 and cost > 0 then return math.ceil(wait) end
if new <= now then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.3f', new), 'PX', math.ceil(new - now))
end
return 0
"""


class Limits(Protocol):
    """Counts; see the module."""

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """Take one token of ``kind`` (a metric label) for ``key`` (who: an id, an address).

        Raises:
            RateLimitedError: none is left; ``details["retry_after_ms"]`` says when the next one is.
        """

    def give_back(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """Return one token: what it was taken for turned out to cost nothing."""


class MemoryLimits:
    """Limits of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[tuple[str, str], float] = OrderedDict()

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        wait_ms = self._take(kind, key, limit, window_ms, 1)
        if wait_ms > 0:
            refuse(kind, wait_ms)

    def give_back(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        self._take(kind, key, limit, window_ms, -1)

    def _take(self, kind: str, key: str, limit: int, window_ms: int, cost: int) -> int:
        now = self._clock() * 1000
        per = window_ms / limit
        arrival = max(self._arrivals.get((kind, key), now), now) + per * cost
        wait = arrival - now - per * limit
        if wait > 1e-6 and cost > 0:
            return int(wait) + 1
        self._arrivals[kind, key] = arrival
        self._arrivals.move_to_end((kind, key))
        while len(self._arrivals) > MAX_LOCAL_BUCKETS:
            self._arrivals.popitem(last=False)
        return 0


class RedisLimits:
    """Limits shared through Redis, with ``MemoryLimits`` standing in while it is away.

    Args:
        client: a Redis client with short timeouts and no retries of its own.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(_LUA)
        self._local = MemoryLimits()
        self._rest_until = 0.0

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        wait_ms = self._run(kind, key, limit, window_ms, 1)
        if wait_ms is None:
            self._local.hit(kind, key, limit=limit, window_ms=window_ms)
        elif wait_ms > 0:
            refuse(kind, wait_ms)

    def give_back(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``. Does not wait: a lost token costs its owner seconds, a wait would cost everybody."""
        gevent.spawn(self._run, kind, key, limit, window_ms, -1)
        self._local.give_back(kind, key, limit=limit, window_ms=window_ms)

    def _run(self, kind: str, key: str, limit: int, window_ms: int, cost: int) -> int | None:
        """Ask Redis. Returns the milliseconds to wait, or None while it is away."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            return int(self._script(keys=[f"{PREFIX}{kind}:{key}"], args=[window_ms / limit, limit, cost]))
        except (redis.RedisError, OSError) as error:
            log.warning("limits_without_redis", error=type(error).__name__)
            self._rest_until = time.monotonic() + REST_SECONDS
            return None


def refuse(kind: str, wait_ms: int) -> None:
    """Count and raise a refusal.

    Raises:
        RateLimitedError: always.
    """
    metrics.RATE_LIMITED.labels(kind=kind).inc()
    raise RateLimitedError("Too many in too short a time; wait a moment.", {"retry_after_ms": wait_ms})

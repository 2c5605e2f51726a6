"""How often somebody may do something: one token bucket per (kind, key), shared by all workers through Redis.

A bucket holds ``limit`` tokens and refills at ``limit`` per ``window``; it is kept as one number, the *theoretical arrival
time* of the generic cell rate algorithm (ITU-T I.371, annex A). While Redis is away each worker counts for itself: refusing
everybody would turn a small failure into a large one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import ceil, floor
from typing import Protocol

import gevent
import redis
import structlog

from hockey_hub_chat import metrics
from hockey_hub_chat.errors import RateLimitedError
from hockey_hub_chat.realtime.redis_client import Line

log = structlog.get_logger(__name__)

PREFIX = "hhc:limit:"
#: Buckets one worker keeps for itself; the one unused longest goes first.
MAX_LOCAL_BUCKETS = 100_000
#: After a failure Redis is left alone for so long, or a dead one would add its timeout to every message.
REST_SECONDS = 3.0

# KEYS: buckets; ARGV: milliseconds per token, tokens in a full bucket, then for each bucket how many are wanted (negative: given
# back). Answers, for each bucket that has fewer: its number, how many were granted, milliseconds until the next one.
# A millionth of a token is forgiven: times are kept to a thousandth of a millisecond.
_LUA = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local per, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('MGET', unpack(KEYS))
local short = {}
for i, key in ipairs(KEYS) do
  local wanted = tonumber(ARGV[i + 2])
  local tat = math.max(tonumber(held[i] or now), now)
  local granted = wanted
  if wanted > 0 then
    granted = math.min(wanted, math.max(0, math.floor((now - tat) / per + burst + 1e-6)))
    if granted < wanted then
      short[#short + 1] = i
      short[#short + 1] = granted
      short[#short + 1] = math.max(1, math.ceil(tat + per * (granted + 1 - burst) - now))
    end
  end
  local new = tat + per * granted
  if granted ~= 0 then
    if new <= now then
      redis.call('DEL', key)
    else
      redis.call('SET', key, string.format('%.3f', new), 'PX', math.ceil(new - now))
    end
  end
end
return short
"""


class Limits(Protocol):
    """Counts; see the module."""

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """Take one token of ``kind`` (a metric label) for ``key`` (who: an id, an address).

        Raises:
            RateLimitedError: none is left; ``details["retry_after_ms"]`` says when the next one is.
        """

    def take(
        self, kind: str, wanted: Mapping[str, int], *, limit: int, window_ms: int = 60_000
    ) -> Mapping[str, tuple[int, int]]:
        """Take many tokens for many at once. For one greenlet at a time.

        Args:
            wanted: {key: tokens}.

        Returns:
            {key: (granted, milliseconds until the next one)} of those who got fewer than they wanted.
        """

    def give_back(self, kind: str, counts: Mapping[str, int], *, limit: int, window_ms: int = 60_000) -> None:
        """Return {key: tokens}: what they were taken for turned out to cost nothing. Does not wait."""

    def close(self) -> None:
        """Let go of connections."""


class MemoryLimits:
    """Limits of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[tuple[str, str], float] = OrderedDict()

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        _refuse(kind, self.take(kind, {key: 1}, limit=limit, window_ms=window_ms))

    def take(
        self, kind: str, wanted: Mapping[str, int], *, limit: int, window_ms: int = 60_000
    ) -> Mapping[str, tuple[int, int]]:
        """See ``Limits``."""
        short = {}
        for key, count in wanted.items():
            granted, wait_ms = self._take(kind, key, count, limit, window_ms)
            if granted < count:
                short[key] = granted, wait_ms
        return short

    def give_back(self, kind: str, counts: Mapping[str, int], *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        for key, count in counts.items():
            self._take(kind, key, -count, limit, window_ms)

    def close(self) -> None:
        """See ``Limits``: there are none."""

    def _take(self, kind: str, key: str, wanted: int, limit: int, window_ms: int) -> tuple[int, int]:
        now = self._clock() * 1000
        per = window_ms / limit
        arrival = max(self._arrivals.get((kind, key), now), now)
        granted = min(wanted, max(0, floor((now - arrival) / per + limit + 1e-6))) if wanted > 0 else wanted
        wait_ms = ceil(arrival + per * (granted + 1 - limit) - now)
        if granted:
            self._arrivals[kind, key] = arrival + per * granted
            self._arrivals.move_to_end((kind, key))
            while len(self._arrivals) > MAX_LOCAL_BUCKETS:
                self._arrivals.popitem(last=False)
        return granted, max(1, wait_ms)


class RedisLimits:
    """Limits shared through Redis, with ``MemoryLimits`` standing in while it is away.

    Args:
        client: a Redis client with short timeouts and no retries of its own.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(_LUA)
        self._line = Line(client)  # for the writer, who asks all the time
        self._local = MemoryLimits()
        self._rest_until = 0.0

    def hit(self, kind: str, key: str, *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``."""
        short = self._ask(self._by_pool, kind, {key: 1}, limit, window_ms)
        if short is None:
            self._local.hit(kind, key, limit=limit, window_ms=window_ms)
        else:
            _refuse(kind, short)

    def take(
        self, kind: str, wanted: Mapping[str, int], *, limit: int, window_ms: int = 60_000
    ) -> Mapping[str, tuple[int, int]]:
        """See ``Limits``."""
        short = self._ask(self._by_line, kind, wanted, limit, window_ms)
        return self._local.take(kind, wanted, limit=limit, window_ms=window_ms) if short is None else short

    def give_back(self, kind: str, counts: Mapping[str, int], *, limit: int, window_ms: int = 60_000) -> None:
        """See ``Limits``. A token lost here costs its owner seconds, a wait would cost everybody."""
        gevent.spawn(self._ask, self._by_pool, kind, {key: -count for key, count in counts.items()}, limit, window_ms)
        self._local.give_back(kind, counts, limit=limit, window_ms=window_ms)

    def close(self) -> None:
        """See ``Limits``."""
        self._line.close()

    def _ask(
        self, run: _Run, kind: str, wanted: Mapping[str, int], limit: int, window_ms: int
    ) -> Mapping[str, tuple[int, int]] | None:
        """Ask Redis; see ``Limits.take``. None while it is away."""
        if time.monotonic() < self._rest_until:
            return None
        keys = list(wanted)
        try:
            short = run([f"{PREFIX}{kind}:{key}" for key in keys], [window_ms / limit, limit, *wanted.values()])
        except (redis.RedisError, OSError) as error:
            log.warning("limits_without_redis", error=type(error).__name__)
            self._rest_until = time.monotonic() + REST_SECONDS
            return None
        return {keys[short[at] - 1]: (short[at + 1], short[at + 2]) for at in range(0, len(short), 3)}

    def _by_pool(self, keys: list[str], numbers: list[float]) -> list[int]:
        short: list[int] = self._script(keys=keys, args=numbers)
        return short

    def _by_line(self, keys: list[str], numbers: list[float]) -> list[int]:
        short: list[int]
        try:
            short = self._line.ask("EVALSHA", self._script.sha, len(keys), *keys, *numbers)
        except redis.exceptions.NoScriptError:  # Redis has restarted, or never saw it
            short = self._line.ask("EVAL", _LUA, len(keys), *keys, *numbers)
        return short


#: Runs the script: bucket names, then numbers.
_Run = Callable[[list[str], list[float]], list[int]]


def _refuse(kind: str, short: Mapping[str, tuple[int, int]]) -> None:
    for _, wait_ms in short.values():
        count_refusals(kind, 1)
        raise refusal(wait_ms)


def count_refusals(kind: str, count: int) -> None:
    """Count refusals in the metrics."""
    metrics.RATE_LIMITED.labels(kind=kind).inc(count)


def refusal(wait_ms: int) -> RateLimitedError:
    """Return the error for somebody who has to wait so long."""
    return RateLimitedError("Too many in too short a time; wait a moment.", {"retry_after_ms": wait_ms})

"""Token buckets: in process and in Redis alike."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
import redis

from harness.redis_server import RedisServer
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import RateLimitedError
from hockey_hub_chat.realtime.limits import Limits, MemoryLimits, RedisLimits
from hockey_hub_chat.realtime.redis_client import make_client


@pytest.fixture(params=["memory", "redis"])
def limits(request: pytest.FixtureRequest) -> Limits:
    """Limits of each kind."""
    if request.param == "memory":
        return MemoryLimits()
    server: RedisServer = request.getfixturevalue("redis_server")
    client = make_client(Settings(redis_url=server.url))
    request.addfinalizer(client.close)
    return RedisLimits(client)


def take(limits: Limits, key: str, *, limit: int = 5, window_ms: int = 60_000) -> int:
    """Take tokens until refused; return how many there were."""
    taken = 0
    while True:
        try:
            limits.hit("test", key, limit=limit, window_ms=window_ms)
        except RateLimitedError:
            return taken
        taken += 1


def test_a_bucket_holds_its_limit_and_says_when_to_come_back(limits: Limits, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    assert take(limits, key) == 5
    with pytest.raises(RateLimitedError) as refused:
        limits.hit("test", key, limit=5)
    assert 11_000 < refused.value.details["retry_after_ms"] <= 12_000
    assert take(limits, key + "other") == 5


def test_it_refills_with_time(limits: Limits, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    assert take(limits, key, window_ms=500) == 5
    with pytest.raises(RateLimitedError) as refused:
        limits.hit("test", key, limit=5, window_ms=500)
    time.sleep(refused.value.details["retry_after_ms"] / 1000 + 0.01)
    limits.hit("test", key, limit=5, window_ms=500)
    time.sleep(0.6)
    assert take(limits, key, window_ms=500) >= 5


def test_a_token_given_back_can_be_taken_again(limits: Limits, request: pytest.FixtureRequest) -> None:
    key = request.node.name
    assert take(limits, key) == 5
    for _ in range(2):
        limits.give_back("test", {key: 1}, limit=5)
        gevent.sleep(0.01)
    assert take(limits, key) == 2
    for _ in range(50):
        limits.give_back("test", {key: 1}, limit=5)
    gevent.sleep(0.05)
    assert take(limits, key) == 5, "giving back makes no bucket larger"


def test_all_workers_share_a_bucket_and_keys_end_by_themselves(redis_server: RedisServer) -> None:
    clients = [make_client(Settings(redis_url=redis_server.url)) for _ in range(2)]
    one, other = map(RedisLimits, clients)
    for _ in range(3):
        one.hit("test", "shared", limit=5)
    assert take(other, "shared") == 2
    with redis_server.ops() as ops:
        assert 0 < ops.pttl("hhc:limit:test:shared") <= 60_000
    for client in clients:
        client.close()


def test_without_redis_each_worker_counts_for_itself_and_quickly(make_redis: Callable[[], RedisServer]) -> None:
    server = make_redis()
    client: redis.Redis = make_client(Settings(redis_url=server.url), timeout=0.25)
    limits = RedisLimits(client)
    assert take(limits, "k", limit=3) == 3
    server.kill9()
    started = time.monotonic()
    assert take(limits, "k", limit=3) == 3
    assert time.monotonic() - started < 1
    client.close()


def test_buckets_in_process_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hockey_hub_chat.realtime.limits.MAX_LOCAL_BUCKETS", 10)
    limits = MemoryLimits()
    for number in range(100):
        limits.hit("test", str(number), limit=5)
    assert len(limits._arrivals) == 10


def test_many_take_at_once_what_each_would_have_got(limits: Limits, request: pytest.FixtureRequest) -> None:
    few, many, nobody = (f"{request.node.name}-{who}" for who in ("few", "many", "nobody"))
    assert limits.take("test", {few: 2, many: 7}, limit=5).keys() == {many}
    short = limits.take("test", {few: 4, many: 1, nobody: 5}, limit=5)
    assert {key: granted for key, (granted, _) in short.items()} == {few: 3, many: 0}
    assert all(11_000 < wait_ms <= 12_000 for _, wait_ms in short.values())
    limits.give_back("test", {few: 2, many: 1}, limit=5)
    gevent.sleep(0.05)
    assert (take(limits, few), take(limits, many), take(limits, nobody)) == (2, 1, 0)


def test_a_full_bucket_is_all_of_it_whatever_its_size(limits: Limits, request: pytest.FixtureRequest) -> None:
    for limit in (1, 3, 7, 31, 997):
        key = f"{request.node.name}-{limit}"
        assert limits.take("test", {key: limit}, limit=limit) == {}
        assert limits.take("test", {key: 1}, limit=limit).keys() == {key}


def test_a_redis_that_has_forgotten_the_script_is_told_it_again(redis_server: RedisServer) -> None:
    client = make_client(Settings(redis_url=redis_server.url))
    limits = RedisLimits(client)
    with redis_server.ops() as ops:
        for _ in range(2):
            ops.script_flush()
            assert limits.take("test", {"forgotten": 1}, limit=2) == {}
        assert limits.take("test", {"forgotten": 1}, limit=2).keys() == {"forgotten"}, "it was not Redis that counted"
    limits.close()
    client.close()


def test_without_redis_a_batch_is_counted_here(make_redis: Callable[[], RedisServer]) -> None:
    server = make_redis()
    client = make_client(Settings(redis_url=server.url), timeout=0.25)
    limits = RedisLimits(client)
    assert limits.take("test", {"k": 3}, limit=3) == {}
    server.kill9()
    assert limits.take("test", {"k": 2, "l": 1}, limit=3) == {}
    assert limits.take("test", {"k": 2, "l": 1}, limit=3)["k"][0] == 1
    limits.close()
    client.close()

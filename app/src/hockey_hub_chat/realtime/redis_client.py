"""Makes Redis clients from the settings; the one place that knows Redis' address, account and TLS.

``Line`` is one connection for one asker, ``Subscription`` one for one listener, without a pool between them and Redis.
"""

from __future__ import annotations

import os
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hockey_hub_chat.config import Settings

#: Everything we ask of Redis takes microseconds; longer means it is not there.
COMMAND_TIMEOUT_SECONDS = 0.75


def make_client(settings: Settings, *, timeout: float = COMMAND_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for ``REDIS_URL``; connects at its first command, and never repeats a command by itself.

    Args:
        timeout: seconds for connecting, and for one command.
    """
    url = settings.redis_url
    if settings.redis_tls and url.startswith("redis://"):
        url = "rediss://" + url.removeprefix("redis://")
    options: dict[str, Any] = {
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout,
        "client_name": connection_name(),
        # What to do about a failure is decided by those who ask: the bus merges and repeats, limits count for themselves.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    if settings.redis_username:
        options["username"] = settings.redis_username
    if settings.redis_password.get_secret_value():
        options["password"] = settings.redis_password.get_secret_value()
    if url.startswith("rediss://"):
        options["ssl_cert_reqs"] = "required"
        options["ssl_check_hostname"] = True
        if settings.redis_ca_cert is not None:
            options["ssl_ca_certs"] = str(settings.redis_ca_cert)
    return redis.Redis.from_url(url, **options)


class Line:
    """One connection, one command at a time; connects at its first command. For one greenlet.

    A connection found closed, by a server that has restarted since, is opened anew once; so a command may be done twice.

    Args:
        client: where to connect to, and how; its pool is left alone.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: Any = None

    def ask(self, *command: bytes | str | float) -> Any:
        """Send one command and return its answer, as bytes, integers and lists of them.

        Raises:
            redis.ResponseError: Redis refused the command; the connection stays.
            redis.RedisError: Redis is away, or did not answer in time.
            OSError: the same.
        """
        is_used = self._connection is not None
        try:
            return self._ask(command)
        except redis.ConnectionError:
            if not is_used:
                raise
        return self._ask(command)

    def close(self) -> None:
        """Close the connection; the next command opens another."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _ask(self, command: tuple[bytes | str | float, ...]) -> Any:
        if self._connection is None:
            self._connection = _connection_of(self._client)
        try:
            self._connection.send_command(*command, check_health=False)
            return self._connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:  # an answer may still be under way, and would be taken for the next one's
            self.close()
            raise


class Subscription:
    """What is published on one channel, on a connection of its own. For one greenlet.

    Args:
        client: where to connect to, and how; its pool is left alone.

    Raises:
        redis.RedisError: Redis is away.
        OSError: the same.
    """

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._connection = _connection_of(client)
        try:
            self._connection.send_command("SUBSCRIBE", channel, check_health=False)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout: float) -> tuple[bytes, Any] | None:
        """Return the next (``b"subscribe"``, ``b"message"`` or ``b"pong"``; payload), or None after ``timeout`` seconds without.

        Raises:
            redis.RedisError: the connection failed.
            OSError: the same.
        """
        try:
            answer = self._connection.read_response(timeout=timeout, disconnect_on_error=False)
        except redis.TimeoutError:
            return None
        return answer[0], answer[-1]

    def ping(self) -> None:
        """Ask for a sign of life; it is received as ``b"pong"``."""
        self._connection.send_command("PING", check_health=False)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def _connection_of(client: redis.Redis) -> Any:
    """Return a connection of our own: the pool would count it for ever, and refuse all after its hundredth."""
    pool: Any = client.connection_pool
    return pool.connection_class(**pool.connection_kwargs)


def connection_name() -> str:
    """Return the name under which this worker's connections show in ``CLIENT LIST``."""
    return f"hockey-hub-chat:{os.getpid()}"

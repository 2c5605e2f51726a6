"""Makes Redis clients from the settings; the one place that knows Redis' address, account and TLS."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hockey_hub_chat.config import Settings
from hockey_hub_chat.realtime.bus import connection_name

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

"""What load balancers, monitors and operators ask: alive, ready, in detail, and the metrics.

``/metrics`` and the open form of ``/health/detailed`` are answered only on the metrics listener, told by the address of the
accepted socket: a ``Host`` header can say anything. On that listener nothing else is answered.
"""

from __future__ import annotations

import platform
import resource
import shutil
import socket
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import flask
import gevent
import sqlalchemy as sa
import structlog
from flask import Flask, Response, current_app, request

from hockey_hub_chat import __version__, metrics
from hockey_hub_chat.errors import ChatError, NotFoundError, PermissionDeniedError, UnavailableError
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import migrate
from hockey_hub_chat.storage.engine import reading
from hockey_hub_chat.web import security

log = structlog.get_logger(__name__)

#: A probe waits no longer than this for a part it looks at.
CHECK_SECONDS = 1.0
#: What the metrics listener answers.
_METRICS_LISTENER_PATHS = frozenset({"/metrics", "/health", "/ready", "/health/detailed"})
_PACKAGES = ("flask", "gunicorn", "gevent", "sqlalchemy", "psycopg", "redis")

_started = time.time()


def register(app: Flask) -> None:
    """Add the endpoints and the guard of the metrics listener."""
    app.add_url_rule("/health", "health", _health)
    app.add_url_rule("/ready", "ready", _ready)
    app.add_url_rule("/health/detailed", "health_detailed", _detailed)
    app.add_url_rule("/metrics", "metrics", _metrics)
    app.before_request(_guard_metrics_listener)


def on_metrics_listener() -> bool:
    """Whether this request was accepted by the metrics listener."""
    sock = request.environ.get("gunicorn.socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    ctx: AppContext = current_app.extensions["chat"]
    return bool(sock.getsockname()[1] == ctx.settings.metrics_port)


def _guard_metrics_listener() -> None:
    if on_metrics_listener() and request.path not in _METRICS_LISTENER_PATHS:
        raise NotFoundError("Only health and metrics are answered here.")


def _health() -> dict[str, str]:
    return {"status": "ok"}


def _ready() -> tuple[dict[str, str], int]:
    ctx: AppContext = current_app.extensions["chat"]
    if ctx.hub.draining:
        return {"status": "draining"}, 503
    problem = _check(lambda: _ask_database(ctx))
    if problem is not None:
        return {"status": "unavailable"}, 503
    return {"status": "ready" if ctx.bus.healthy else "degraded"}, 200


def _metrics() -> Response:
    if not on_metrics_listener() or not current_app.extensions["chat"].settings.enable_metrics:
        raise NotFoundError("There is no such page.")
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _detailed() -> Response:
    ctx: AppContext = current_app.extensions["chat"]
    if not on_metrics_listener() and not security.principal().is_admin:
        raise PermissionDeniedError("Only administrators may see this.")
    facts: dict[str, Any] = {}

    def look() -> None:
        facts["current"], facts["head"] = migrate.current_and_head(ctx.engine)

    database = _timed(lambda: _ask_database(ctx))
    problem = _check(look)
    migration: dict[str, Any] = {"status": "unknown"}
    if problem is None:
        migration = {**facts, "status": "ok" if facts["current"] == facts["head"] else "pending"}
    disk = shutil.disk_usage(ctx.settings.data_dir if ctx.settings.data_dir.exists() else "/")
    bus: dict[str, Any] = {"status": "ok" if ctx.bus.healthy else "unavailable"}
    bus["kind"] = "redis" if ctx.settings.redis_url else "in-process"
    ready = not ctx.hub.draining and database["status"] == "ok"
    whole = "unavailable" if not ready else "ok" if ctx.bus.healthy else "degraded"
    return flask.jsonify(
        status=whole,
        service=ctx.settings.service_name,
        draining=ctx.hub.draining,
        uptime_seconds=round(time.time() - _started),
        database=database,
        migration=migration,
        redis=bus,
        disk={"free_bytes": disk.free, "total_bytes": disk.total, "status": _disk_status(disk.free, disk.total)},
        memory={"worker_peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
        sockets=ctx.hub.size,
        versions={
            "hockey-hub-chat": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    )


def _disk_status(free: int, total: int) -> str:
    return "low" if free < total * 0.05 else "ok"


def _ask_database(ctx: AppContext) -> None:
    with reading(ctx.engine) as conn:
        conn.execute(sa.text("SELECT 1"))


def _check(look: Callable[[], None]) -> str | None:
    """Return what is wrong with a part, None when it answered in time."""
    timeout = gevent.Timeout.start_new(CHECK_SECONDS)
    try:
        look()
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        return "no answer in time"
    except UnavailableError:
        return "away"
    except (ChatError, sa.exc.SQLAlchemyError) as error:
        log.warning("health_check_failed", error=type(error).__name__)
        return "failed"
    finally:
        timeout.close()
    return None


def _timed(look: Callable[[], None]) -> dict[str, Any]:
    started = time.perf_counter()
    problem = _check(look)
    if problem is not None:
        return {"status": "unavailable", "problem": problem}
    return {"status": "ok", "answered_in_ms": round((time.perf_counter() - started) * 1000, 2)}

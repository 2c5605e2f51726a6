"""Structured logs: one JSON object a line in production, readable lines in development, on standard error.

Whatever logs through the standard library (gunicorn, alembic) comes out in the same form. ``request_id`` and what else is
bound with ``structlog.contextvars`` is on every line of a request. Bodies, passwords and tokens are never logged.
"""

from __future__ import annotations

import logging.config
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from hockey_hub_chat.config import Settings


def logconfig_dict(settings: Settings) -> dict[str, Any]:
    """Return what ``logging.config.dictConfig`` (and gunicorn's ``logconfig_dict``) takes."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _shared(),
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_last(settings)],
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "structured", "stream": "ext://sys.stderr"}
        },
        "root": {"handlers": ["stderr"], "level": settings.log_level.upper()},
        "loggers": {
            "gunicorn.error": {"handlers": ["stderr"], "level": settings.log_level.upper(), "propagate": False},
            "gunicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
            "alembic": {"level": "WARNING"},
        },
    }


def configure(settings: Settings) -> None:
    """Set up logging for this process. Safe to repeat."""
    logging.config.dictConfig(logconfig_dict(settings))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _last(settings: Settings) -> list[Processor]:
    if settings.log_format == "console":
        return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("event"),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _to_json(value: Any, default: Callable[[Any], Any] = str, **_options: Any) -> str:
    return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS).decode()

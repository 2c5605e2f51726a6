"""The HTTP API of docs/protocol.md: reads JSON, asks a service, writes JSON. Holds no rule of its own."""

from __future__ import annotations

from apiflask import APIFlask
from werkzeug.routing import IntegerConverter, Map

from hockey_hub_chat.web.api import account, auth, clubs, conversations, describe, messages, people, schema, teams

__all__ = ["register"]


class IdConverter(IntegerConverter):
    """An id in a path: 1 up to where JSON numbers stop being exact (and well below where the database's do)."""

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, min=1, max=2**53 - 1)


def register(app: APIFlask) -> None:
    """Add every route below ``/api``."""
    app.config["VALIDATION_ERROR_STATUS_CODE"] = 422
    app.config["VALIDATION_ERROR_DESCRIPTION"] = "A field is missing or wrong; details.fields names each."
    app.config["VALIDATION_ERROR_SCHEMA"] = describe.ERROR_SCHEMA
    app.config["HTTP_ERROR_SCHEMA"] = describe.ERROR_SCHEMA
    app.config["AUTO_404_RESPONSE"] = False
    app.config["AUTO_SERVERS"] = False  # it would be whatever Host the first request named
    app.config["OPENAPI_VERSION"] = "3.1.0"
    app.config["DESCRIPTION"] = "History and management; sending and receiving is /ws (see /api/frames.schema.json)."
    app.url_map.converters["id"] = IdConverter
    app.spec_processor(describe.complete)
    app.security_schemes = {
        "cookie": {"type": "apiKey", "in": "cookie", "name": "hhc_access"},
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }
    for module in (auth, account, people, clubs, teams, conversations, messages, schema):
        app.register_blueprint(module.blueprint)

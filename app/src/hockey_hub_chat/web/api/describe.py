"""What ``/api/openapi.json`` says beyond the models: who may, which errors an operation answers, and in which form."""

from __future__ import annotations

from typing import Any

from hockey_hub_chat.web.api.schemas import ErrorBody

#: Either will do.
LOGGED_IN: list[str | dict[str, list[Any]]] = [{"cookie": []}, {"bearer": []}]

#: The form of every error.
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Error",
    "required": ["error"],
    "properties": {"error": ErrorBody.model_json_schema()},
}

_MEANINGS = {
    200: "It was there already.",
    204: "Done.",
    400: "The request could not be read.",
    401: "Nobody is logged in, or with a token that does not count.",
    403: "Not allowed, not a member, the wrong password, or from another site.",
    404: "There is no such thing.",
    405: "The address means something else, for which this method is not possible.",
    409: "It contradicts what is stored.",
    413: "Too large.",
    422: "A field is missing or wrong; `details.fields` names each.",
    429: "Too many in too short a time; `details.retry_after_ms`.",
    503: "The database is away for the moment; safe to try again.",
}

_ID = {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}
_UUID = {"type": "string", "format": "uuid"}
#: What a path names by UUID; everything else has a number.
_BY_UUID = frozenset({"session_id"})


def answers(*statuses: int) -> dict[int, str]:
    """Return the ``responses`` of an operation; 429 and 503 are everybody's."""
    return {status: _MEANINGS[status] for status in sorted({*statuses, 429, 503})}


def complete(spec: dict[Any, Any] | str) -> dict[Any, Any] | str:
    """Give every error its form, and every id in a path its range (APIFlask takes our converter for text)."""
    if isinstance(spec, str):
        raise TypeError("the description is JSON")
    spec["paths"] = {path: what for path, what in spec["paths"].items() if path.startswith("/api/")}
    spec.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR_SCHEMA
    spec["components"]["schemas"].pop("ValidationError", None)
    spec["components"]["schemas"].pop("HTTPError", None)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            if "{" in path:  # what is no id names nothing
                operation["responses"].setdefault("404", {"description": _MEANINGS[404]})
                operation["responses"].setdefault("405", {"description": _MEANINGS[405]})
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    response["content"] = content
                elif int(status) == 204:
                    response.pop("content", None)
                elif int(status) == 200 and "201" in operation["responses"]:
                    response["content"] = operation["responses"]["201"]["content"]
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"] = _UUID if parameter["name"] in _BY_UUID else _ID
    return spec

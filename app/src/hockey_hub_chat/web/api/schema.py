"""The contract of the socket, for programs."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint

from hockey_hub_chat.events import frames_schema

blueprint = APIBlueprint("schema", __name__, url_prefix="/api", tag="Contract")


@blueprint.get("/frames.schema.json")
def frames() -> dict[str, Any]:
    """JSON Schema of the frames on /ws, both directions."""
    return frames_schema()

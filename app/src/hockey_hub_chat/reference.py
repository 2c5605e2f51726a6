"""The settings told to people: the table of docs/configuration.md, and what is in effect on this host. Made from ``config`` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from hockey_hub_chat.config import Settings

_TYPES = {str: "text", bool: "true or false", int: "whole number", SecretStr: "secret"}
_BEFORE = """# Settings

Made from the code by `hockey-hub-chat settings --describe`; a test compares them. `site.yml` writes those of a host into one file for its
units; whoever runs the application by hand sets them in its environment. What is empty counts as not given. All bad ones are reported at
once, and nothing starts with them. Secrets, and the key files, may come as files instead, named like the setting in lower case, in the
directory of systemd's credentials or in `SECRETS_DIR`. `hockey-hub-chat settings` shows what is in effect.

| setting | what it does | values | default |
|---|---|---|---|
"""


def markdown() -> str:
    """Return the text of docs/configuration.md."""
    rows = (
        f"| `{name.upper()}` | {field.description} | {_values(field)} | {_default(field)} |"
        for name, field in Settings.model_fields.items()
    )
    return _BEFORE + "\n".join(rows) + "\n"


def in_effect(settings: Settings) -> Iterator[tuple[str, str, bool]]:
    """Yield for each setting its name, its value as text (of a secret only whether it is set), and whether it was given."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = ("(set)" if value.get_secret_value() else "") if isinstance(value, SecretStr) else _text(value)
        yield name.upper(), shown, name in settings.model_fields_set


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    kind = next((part for part in get_args(kind) if part is not type(None)), kind)
    least = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    if least is None:
        return _TYPES.get(kind, "path")
    return f"{least} to {most}" if most is not None else f"{least} or more"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.local/share/hockey-hub-chat`"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{_text(value)}`" if value not in ("", None) else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

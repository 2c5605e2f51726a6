"""Filters that compare what Redis answers with what it was told."""

from __future__ import annotations

from typing import Any


def redis_config(lines: list[str]) -> dict[str, str]:
    """Return name -> value from the lines of ``CONFIG GET``, which alternate (an empty value is an empty line)."""
    return dict(zip(lines[::2], lines[1::2], strict=False))


def redis_differing(wanted: dict[str, Any], actual: dict[str, str]) -> dict[str, str]:
    """Return the settings whose running value is another, with the wanted value."""
    return {name: str(value) for name, value in wanted.items() if actual.get(name) != str(value)}


class FilterModule:
    """Give Ansible the filters."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {f.__name__: f for f in (redis_config, redis_differing)}

"""Filters that compare what Redis answers with what it was told."""

from __future__ import annotations

import re
from typing import Any


def redis_config(lines: list[str]) -> dict[str, str]:
    """Return name -> value from the lines of ``CONFIG GET``, which alternate (an empty value is an empty line)."""
    return dict(zip(lines[::2], lines[1::2], strict=False))


def redis_differing(wanted: dict[str, Any], actual: dict[str, str]) -> dict[str, str]:
    """Return the settings whose running value is another, with the wanted value."""
    return {name: str(value) for name, value in wanted.items() if actual.get(name) != str(value)}


def redis_unexpected(answers: list[str], cases: list[dict[str, str]]) -> list[str]:
    """Return a sentence for each case whose answer does not match its ``expect``, and one when answers are missing."""
    wrong = [
        f"redis-cli {case['ask']} was answered: {answer}"
        for case, answer in zip(cases, answers, strict=False)
        if not re.search(case["expect"], answer.strip())
    ]
    if len(answers) != len(cases):
        wrong.append(f"{len(cases)} questions, but {len(answers)} answers")
    return wrong


class FilterModule:
    """Give Ansible the filters."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {f.__name__: f for f in (redis_config, redis_differing, redis_unexpected)}

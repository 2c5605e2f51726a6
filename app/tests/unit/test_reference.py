"""The settings as people are told of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hockey_hub_chat import cli, reference
from hockey_hub_chat.config import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_says_what_the_code_says() -> None:
    assert PAGE.read_text() == reference.markdown(), "run: hockey-hub-chat settings --describe > docs/configuration.md"


def test_every_setting_is_explained_with_what_it_may_be() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    rows = reference.markdown().splitlines()
    assert "| `PORT` | Port to listen on; 0: any. | 0 to 65535 | `3002` |" in rows
    assert any(row.startswith("| `LOG_FORMAT` |") and "`json` or `console`" in row for row in rows)
    assert any(row.startswith("| `DATABASE_PASSWORD` |") and "| secret |" in row for row in rows)


def test_what_is_in_effect_is_shown_without_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "4000")
    monkeypatch.setenv("DATABASE_PASSWORD", "very secret")
    shown = CliRunner().invoke(cli.main, ["settings"]).output
    assert "* PORT=4000" in shown and "  HOST=127.0.0.1" in shown
    assert "* DATABASE_PASSWORD=(set)" in shown and "  REDIS_PASSWORD=\n" in shown and "very secret" not in shown


def test_a_bad_setting_is_named_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "many")
    answer = CliRunner().invoke(cli.main, ["settings"])
    assert answer.exit_code == cli.EXIT_SETTINGS and "PORT" in answer.output

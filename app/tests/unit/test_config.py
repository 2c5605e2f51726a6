"""Settings: names, defaults, secrets from files, and all that is wrong said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hockey_hub_chat import config
from hockey_hub_chat.errors import ConfigError

PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://chat_user@db1,db2/chat_production",
    "REDIS_URL": "redis://chat@redis:6379/0",
    "PUBLIC_URL": "https://chat.example.org",
    "JWT_PRIVATE_KEY_PATH": "/etc/keys/private.pem",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test sets."""
    for name in (*config.Settings.model_fields, "credentials_directory", "secrets_dir"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def problems() -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.load()
    found: dict[str, str] = caught.value.details["settings"]
    for name in found:
        assert name in caught.value.message
    return found


def test_nothing_set_is_the_embedded_default(tmp_path: Path) -> None:
    settings = config.load()
    assert settings.is_sqlite and not settings.redis_url and not settings.is_production
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 3002, 9464)
    assert settings.sqlite_path == tmp_path / ".local/share/hockey-hub-chat/chat.sqlite3"
    assert not settings.cookie_secure and settings.log_format == "console"


def test_an_empty_value_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, DATABASE_URL="", PORT="", LOG_LEVEL="")
    assert config.load().port == 3002


def test_production_has_its_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, **PRODUCTION)
    settings = config.load()
    assert settings.cookie_secure and settings.log_format == "json" and not settings.is_sqlite
    set_all(monkeypatch, COOKIE_SECURE="false", LOG_FORMAT="console")
    assert not config.load().cookie_secure and config.load().log_format == "console"


def test_all_that_is_missing_and_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, APP_ENV="production", PORT="abc", PUBLIC_URL="chat.example.org", LOG_LEVEL="loud")
    found = problems()
    assert set(found) == {"PORT", "PUBLIC_URL", "LOG_LEVEL", "DATABASE_URL", "REDIS_URL", "JWT_PRIVATE_KEY_PATH"}
    assert found["REDIS_URL"] == "must be set in production"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("WEB_CONCURRENCY", "0"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("REDIS_URL", "http://u:hunter2@h"),
        ("PUBLIC_URL", "https://chat.example.org/path"),
        ("BIND", "somewhere"),
        ("RATE_LIMIT_MAX_REQUESTS", "0"),
        ("APP_ENV", "staging"),
    ],
)
def test_a_bad_value_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert list(caught.value.details["settings"]) == [name]
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("variable", ["CREDENTIALS_DIRECTORY", "SECRETS_DIR"])
def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    (tmp_path / "database_password").write_text("from a file\n")
    (tmp_path / "jwt_private.pem").write_text("-")
    set_all(monkeypatch, **{variable: str(tmp_path)})
    settings = config.load()
    assert settings.database_password.get_secret_value() == "from a file"
    assert settings.jwt_private_key == tmp_path / "jwt_private.pem"
    assert "from a file" not in repr(settings)
    set_all(monkeypatch, DATABASE_PASSWORD="from the environment")
    assert config.load().database_password.get_secret_value() == "from the environment"


def test_a_secrets_directory_that_is_not_there_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SECRETS_DIR="/nowhere")
    assert config.load().database_password.get_secret_value() == ""


def test_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PUBLIC_URL="https://Chat.example.org/", CORS_ORIGINS="https://a.example, https://b.example/")
    assert config.load().origins == {"https://chat.example.org", "https://a.example", "https://b.example"}

"""The one reader of the environment: every setting, its type and its default.

Names are those of the deployment guide. Secrets may come as files named like the setting in lower case, in
``CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``) or ``SECRETS_DIR``. All bad settings are reported at once.
With nothing set this is the embedded default: SQLite, an in-process bus and local files.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hockey_hub_chat.errors import ConfigError

#: File names looked for in the credentials directory when the path settings are not given.
JWT_PRIVATE_FILE = "jwt_private.pem"
JWT_PUBLIC_FILE = "jwt_public.pem"


def _secret_directories() -> list[Path]:
    names = (os.environ.get("CREDENTIALS_DIRECTORY"), os.environ.get("SECRETS_DIR"))
    return [Path(name) for name in names if name and Path(name).is_dir()]


def _default_data_dir() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    if home:
        return Path(home) / "hockey-hub-chat"
    try:
        return Path.home() / ".local" / "share" / "hockey-hub-chat"
    except RuntimeError:  # an account without a home
        return Path("build") / "run"


class Settings(BaseSettings):
    """Everything that can be set; ``load`` makes one from the environment."""

    model_config = SettingsConfigDict(
        case_sensitive=False, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Each description is a row of docs/configuration.md (``hockey-hub-chat settings``).
    app_env: Literal["development", "production"] = Field(
        "development", description="In production nothing is made up: what has no safe default must be given."
    )
    service_name: str = Field("communication-service", description="Issuer of the access tokens; in every log line.")

    database_url: str = Field(
        "", description="`postgresql://user@host/name`, or `sqlite:///path`; none: SQLite in `DATA_DIR`."
    )
    database_password: SecretStr = Field(SecretStr(""), description="Password of the database's user.")
    database_pool_size: int = Field(
        20, ge=1, le=1000, description="Connections of one worker at most, the writer's apart."
    )
    database_ssl: bool = Field(False, description="Refuse a database without TLS.")
    database_ssl_root_cert: Path | None = Field(
        None, description="The CA that must have signed the database's certificate."
    )

    redis_url: str = Field(
        "", description="`redis://host:port`, `rediss://…` or `unix://path`; none: one process, nothing shared."
    )
    redis_username: str = Field("", description="ACL user.")
    redis_password: SecretStr = Field(SecretStr(""), description="Password of the ACL user.")
    redis_tls: bool = Field(False, description="Speak TLS to Redis whatever the URL says.")
    redis_ca_cert: Path | None = Field(None, description="The CA that must have signed Redis' certificate.")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3002, ge=0, le=65535, description="Port to listen on; 0: any.")
    bind: str = Field("", description="`unix:/path` or `host:port`; wins over `HOST` and `PORT`.")
    web_concurrency: int = Field(1, ge=1, le=256, description="Worker processes.")
    graceful_timeout_seconds: int = Field(
        30, ge=1, le=600, description="A worker that leaves has so long to answer and close its sockets."
    )
    max_connections_per_worker: int = Field(
        10_000, ge=1, description="Sockets of one worker; more are told to try later."
    )
    heartbeat_seconds: int = Field(
        25, ge=1, le=600, description="A socket is pinged so often, and closed when it stays silent."
    )

    realtime_coalesce: bool = Field(
        True, description="False writes each message by itself, to measure what writing together wins."
    )

    public_url: str = Field("", description="The site's address as people type it, without a path.")
    cors_origins: str = Field("", description="Other origins whose pages may use the API, separated by commas.")
    cookie_secure: bool = Field(False, description="Cookies travel over TLS only. In production: true.")
    jwt_private_key_path: Path | None = Field(
        None, description="RSA key that signs access tokens; else one is made in `DATA_DIR`."
    )
    jwt_public_key_path: Path | None = Field(
        None, description="Its public half, or several, to which older tokens still answer."
    )
    jwt_access_ttl_seconds: int = Field(600, ge=10, le=86_400, description="How long an access token counts.")
    session_ttl_days: int = Field(30, ge=1, le=3650, description="A session ends when it was not renewed for so long.")

    rate_limit_window_ms: int = Field(60_000, ge=100, description="The time in which HTTP requests are counted.")
    rate_limit_max_requests: int = Field(100, ge=1, description="HTTP requests of one person in that time.")
    message_rate_limit: int = Field(30, ge=1, description="New messages of one person in a minute.")
    login_rate_limit: int = Field(10, ge=1, description="Log-in attempts for one account from one address in a minute.")

    enable_metrics: bool = Field(True, description="Answer `/metrics` on the metrics port.")
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics port.")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port for metrics and detailed health.")
    prometheus_multiproc_dir: Path | None = Field(None, description="Where several workers keep what they count.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["json", "console"] = Field("console", description="In production: json.")

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="What a single process keeps: database, keys, files."
    )

    @field_validator("log_level", "app_env", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_password", "redis_password", mode="before")
    @classmethod
    def _without_newline(cls, value: Any) -> Any:
        return value.rstrip("\r\n") if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(("postgresql://", "postgres://", "sqlite:///")):
            raise ValueError("must start with postgresql:// or sqlite:///")
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/")):
            raise ValueError("must look like https://chat.example.org, without a path")
        return value.rstrip("/")

    @field_validator("bind")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not value.startswith("unix:") and not value.rpartition(":")[2].isdigit():
            raise ValueError("must look like unix:/path/to/socket or host:port")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        production = str(values.get("app_env", "")).lower() == "production"
        filled: dict[str, Any] = {"cookie_secure": True, "log_format": "json"} if production else {}
        for name, file in (("jwt_private_key_path", JWT_PRIVATE_FILE), ("jwt_public_key_path", JWT_PUBLIC_FILE)):
            found = [directory / file for directory in _secret_directories() if (directory / file).is_file()]
            if found:
                filled[name] = found[0]
        return {**filled, **{key: value for key, value in values.items() if value is not None}}

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        if self.is_production:
            needed = {
                "DATABASE_URL": self.database_url,
                "REDIS_URL": self.redis_url,
                "PUBLIC_URL": self.public_url,
                "JWT_PRIVATE_KEY_PATH": self.jwt_private_key_path,
            }
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise _MissingInProductionError(missing)
        return self

    @property
    def is_production(self) -> bool:
        """Whether nothing may be made up."""
        return self.app_env == "production"

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is the embedded one."""
        return not self.database_url or self.database_url.startswith("sqlite:")

    @property
    def sqlite_path(self) -> Path:
        """The embedded database's file."""
        if self.database_url:
            return Path(self.database_url.removeprefix("sqlite:///"))
        return self.data_dir / "chat.sqlite3"

    @property
    def jwt_private_key(self) -> Path:
        """The signing key's file: given, or the embedded default's own."""
        return self.jwt_private_key_path or self.data_dir / JWT_PRIVATE_FILE

    @cached_property
    def origins(self) -> frozenset[str]:
        """The origins a browser may act from: our own and those in ``CORS_ORIGINS``."""
        given = [self.public_url, *self.cors_origins.split(",")]
        return frozenset(origin.strip().rstrip("/").lower() for origin in given if origin.strip())


class _MissingInProductionError(ValueError):
    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def load(**overrides: Any) -> Settings:
    """Read the environment and the secret files.

    Args:
        overrides: settings by field name that win over the environment.

    Raises:
        ConfigError: ``details["settings"]`` maps each bad setting to what is wrong with it.
    """
    problems: dict[str, str] = {}
    given = dict(overrides)
    for _ in range(2):  # again without what is bad: what is missing is only looked for when all fields are well
        try:
            made = Settings(_secrets_dir=_secret_directories() or None, **given)
        except pydantic.ValidationError as error:
            for name, what in _explain(error).items():
                problems.setdefault(name, what)
                field = Settings.model_fields.get(name.lower())
                if field is not None:
                    given[name.lower()] = field.get_default(call_default_factory=True)
        except OSError as error:
            problems[Path(str(error.filename)).name.upper()] = f"cannot be read: {error.strerror}"
        else:
            if not problems:
                return made
    listed = "; ".join(f"{name}: {what}" for name, what in sorted(problems.items()))
    raise ConfigError(f"Bad settings: {listed}", {"settings": problems})


def _explain(error: pydantic.ValidationError) -> dict[str, str]:
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=True, include_input=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, _MissingInProductionError):
            problems.update(dict.fromkeys(cause.names, "must be set in production"))
        else:
            problems[str(item["loc"][0] if item["loc"] else "settings").upper()] = item["msg"].removeprefix(
                "Value error, "
            )
    return problems

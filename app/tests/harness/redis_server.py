"""A real Redis of our own with the ACL users a site has: ``default`` off, ``chat`` held to ``hhc:*``."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.process import Daemon, DaemonError, Workshop, free_port

#: The library's own default asks again for seconds; the tests want the truth at once.
NO_RETRY = Retry(NoBackoff(), 0)


class RedisServer(Daemon):
    """Redis on 127.0.0.1 with an ACL file; keeps its port over restarts."""

    name = "redis"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop, workshop.directory("redis"))
        binary = shutil.which("redis-server")
        if binary is None:
            raise DaemonError("Redis is not installed: apt-get install redis-server")
        self.binary = binary
        self.account = workshop.account
        self.port = free_port()
        self.user = "chat"
        self.password = secrets.token_urlsafe(12)
        self.ops_password = secrets.token_urlsafe(12)
        acl = self.directory / "users.acl"
        acl.write_text(
            "user default off nopass -@all\n"
            f"user chat on >{self.password} ~hhc:* &hhc:* +@all -@dangerous -@admin +info\n"
            f"user ops on >{self.ops_password} ~* &* +@all\n"
        )
        acl.chmod(0o644)  # the directory itself is closed to others

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [
            *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--aclfile", str(self.directory / "users.acl"), "--appendonly", "no", "--save", ""),
            *("--maxmemory", "64mb", "--maxmemory-policy", "noeviction"),
        ]

    @property
    def url(self) -> str:
        """The application's address, password included."""
        return f"redis://{self.user}:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def env(self) -> dict[str, str]:
        """The settings a site gives: the address without, the password beside."""
        return {"REDIS_URL": f"redis://{self.user}@127.0.0.1:{self.port}/0", "REDIS_PASSWORD": self.password}

    def ops(self) -> redis.Redis:
        """Return a client that may do everything; the caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, username="ops", password=self.ops_password, retry=NO_RETRY)

    def is_ready(self) -> bool:
        """Return whether it answers PING."""
        try:
            with self.ops() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

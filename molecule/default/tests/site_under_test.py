"""Where the tests' site is and how to reach it: over ssh as an administrator, over HTTPS as anybody, and by playbook.

Knows the sandbox by its state file alone, as a person would know a server by its address. Judges nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = "inventories/sandbox"
HOST = "rink1"


class CommandError(AssertionError):
    """A command on the host failed; carries its words."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: status, headers (names in lower case; repeated ones stay repeated), body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return the first header of that name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    def json(self) -> Any:
        """Return the body parsed."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Played:
    """How a playbook ended."""

    status: int
    output: str


class Site:
    """One sandbox host with the whole site on it."""

    def __init__(self, name: str | None = None) -> None:
        state_dir = Path(os.environ.get("SANDBOX_STATE_DIR", "/var/lib/hockey-hub-sandbox"))
        self.name = name or os.environ.get("SANDBOX_NAME", "demo")
        self.directory = state_dir / self.name
        state = json.loads((self.directory / "state.json").read_text(encoding="utf-8"))
        self.address: str = state["hosts"][HOST]["address"]
        self.url = f"https://{self.address}"
        self.trust = ssl.create_default_context(cadata=self.root("cat /etc/hockey-hub/tls/ca.crt"))

    def ssh_argv(self) -> list[str]:
        """Return the ssh command line up to the remote command."""
        options = {
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ControlMaster": "auto",
            "ControlPersist": "60s",
            "ControlPath": str(self.directory / "cp" / "tests-%C"),
        }
        return [
            "ssh",
            "-i",
            str(self.directory / "ssh_key"),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            f"ops@{self.address}",
        ]

    def root(self, script: str, *arguments: str, check: bool = True) -> str:
        """Run a shell script on the host as root and return what it printed; raises CommandError when it fails."""
        remote = shlex.join(["sudo", "sh", "-c", script, "sh", *arguments])
        result = subprocess.run([*self.ssh_argv(), remote], capture_output=True, text=True, check=False, timeout=120)
        if check and result.returncode != 0:
            raise CommandError(f"{script}\n{result.stdout}{result.stderr}")
        return result.stdout.strip()

    def ask(
        self, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> Answer:
        """Make one HTTPS request on a connection of its own."""
        connection = http.client.HTTPSConnection(self.address, timeout=timeout, context=self.trust)
        kind = {} if body is None else {"Content-Type": "application/json", "Origin": self.url}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {**kind, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, [(k.lower(), v) for k, v in answer.getheaders()], answer.read())
        finally:
            connection.close()

    def play(self, playbook: str, *arguments: str) -> Played:
        """Run a playbook against the site as ops would."""
        program = Path(sys.executable).parent / "ansible-playbook"
        result = subprocess.run(
            [str(program), "-i", INVENTORY, playbook, *arguments],
            cwd=ROOT,
            env={**os.environ, "SANDBOX_NAME": self.name, "ANSIBLE_FORCE_COLOR": "0", "COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
        )
        return Played(result.returncode, result.stdout + result.stderr)

    def release(self) -> str:
        """Return the release that runs now."""
        return self.root("basename $(readlink /opt/hockey-hub/current)")

    def main_pid(self, unit: str) -> int:
        """Return the main process of a unit."""
        return int(self.root('systemctl show --property=MainPID --value "$1"', unit))

"""nginx with TLS in front of a server under test, on the same core."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Sequence

from harness.process import Daemon, DaemonError, free_port
from suite.native import Target
from suite.peers import PEERS, Server
from suite.places import PROJECT, SERVER_CORE, pinned
from suite.site import Site

#: How the role lets nginx speak to the application; the file holds nothing that would have to be rendered.
PROXY_SETTINGS = PROJECT / "roles/load_balancer/templates/etc/nginx/hockey-hub/proxy.conf.j2"


class Nginx(Daemon):
    """nginx with one worker; certificate and key (ECDSA P-256) are made for it.

    Args:
        upstream: ``host:port`` or ``unix:/path`` of the server behind.
    """

    name = "nginx"

    def __init__(self, site: Site, upstream: str) -> None:
        super().__init__(site.workshop, site.workshop.directory("nginx"))
        program = shutil.which("nginx")
        if program is None:
            raise DaemonError("nginx is not there: scripts/bootstrap bench")
        self._program = program
        self.account = site.workshop.account
        self.port = free_port()
        text = (PEERS / "nginx.conf").read_text()
        for name, value in (("DIRECTORY", self.directory), ("PORT", self.port), ("UPSTREAM", upstream)):
            text = text.replace(f"@{name}@", str(value))
        (self.directory / "nginx.conf").write_text(text)
        shutil.copy(PROXY_SETTINGS, self.directory / "proxy.conf")
        self._make_certificate()
        if self.account is not None:
            for path in self.directory.iterdir():
                os.chown(path, *self.account)

    def _make_certificate(self) -> None:
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        argv += ["-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [
            *pinned(SERVER_CORE),
            self._program,
            "-p",
            str(self.directory),
            "-c",
            str(self.directory / "nginx.conf"),
        ]

    def is_ready(self) -> bool:
        """Return whether its pid file is there, which it writes once it listens."""
        return (self.directory / "nginx.pid").exists()


class Behind:
    """A server and the nginx in front of it."""

    def __init__(self, nginx: Nginx, server: Server) -> None:
        self._nginx = nginx
        self._server = server

    def target(self) -> Target:
        """Return where nginx is found."""
        target = self._server.target()
        watch = {**target.watch, "nginx": self._nginx.pid}
        return dataclasses.replace(target, address=f"127.0.0.1:{self._nginx.port}", tls=True, watch=watch)

    def destroy(self) -> None:
        """End both."""
        self._nginx.destroy()
        self._server.destroy()


def behind(site: Site, server: Server) -> Behind:
    """Start an nginx in front of a running server, which it ends when nginx does not start."""
    try:
        nginx = Nginx(site, server.target().address)
        nginx.start()
    except BaseException:
        server.destroy()
        raise
    return Behind(nginx, server)

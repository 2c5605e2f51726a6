"""What a thief who got in would find: sandboxed units, and no secret where others can read."""

from __future__ import annotations

import json

import pytest
from site_under_test import Site
from testinfra.host import Host

#: Highest exposure (0 safe … 10 unsafe) a unit may have, by `systemd-analyze security`.
EXPOSURE_MAXIMUM = {"hockey-hub-chat.service": 2.0, "hockey-hub-chat-candidate.service": 2.0, "nginx.service": 5.0}

#: Looks for every secret of the site wherever others could read it; prints where, never what.
SEARCH = r"""
import json, os, pathlib, stat
folder = pathlib.Path("/etc/hockey-hub/secrets")
secrets = {}
for path in folder.iterdir():
    text = path.read_text().strip()
    if path.name != "jwt_public.pem":
        secrets[path.name] = (text.splitlines()[1] if text.startswith("-----") else text).encode()
found = []
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for part in ("cmdline", "environ"):
        try:
            content = (process / part).read_bytes()
        except OSError:
            continue
        found += [f"{part} of {process.name}: {name}" for name, value in secrets.items() if value in content]
for top in ("/etc", "/opt/hockey-hub", "/var/lib/hockey-hub", "/var/log", "/run", "/tmp", "/usr/local"):
    for base, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("credentials",)]
        for file in files:
            path = pathlib.Path(base, file)
            try:
                state = path.lstat()
                if not stat.S_ISREG(state.st_mode) or state.st_size > 20_000_000:
                    continue
                readable = state.st_mode & stat.S_IROTH
                logged = top == "/var/log"
                if not (readable or logged):
                    continue
                content = path.read_bytes()
            except OSError:
                continue
            found += [f"{path}: {name}" for name, value in secrets.items() if value in content]
print(json.dumps({"looked_for": sorted(secrets), "found": found}))
"""


@pytest.mark.parametrize("unit", EXPOSURE_MAXIMUM)
def test_unit_is_sandboxed(site: Site, unit: str) -> None:
    words = site.root(f"systemd-analyze security --no-pager {unit} | tail -1").split()
    exposure = float(next(word for word in words if word.replace(".", "", 1).isdigit()))
    assert exposure <= EXPOSURE_MAXIMUM[unit], f"{unit}: {exposure}"


def test_no_secret_is_where_others_read(site: Site) -> None:
    answer = json.loads(site.root('printf %s "$1" | python3 -', SEARCH))
    assert {"database_password", "redis_password", "jwt_private.pem"} <= set(answer["looked_for"])
    assert answer["found"] == []


def test_secrets_belong_to_the_service_alone(server: Host) -> None:
    assert server.file("/etc/hockey-hub/secrets").mode == 0o750
    for name in ("database_password", "redis_password", "jwt_private.pem"):
        secret = server.file(f"/etc/hockey-hub/secrets/{name}")
        assert (secret.user, secret.group, secret.mode) == ("root", "hockeyhub", 0o640)


def test_the_service_has_no_privileges(site: Site) -> None:
    pid = site.main_pid("hockey-hub-chat.service")
    status = dict(
        line.split(":\t", 1) for line in site.root('cat /proc/"$1"/status', str(pid)).splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert "0" not in status["Uid"].split()


def test_releases_are_read_only_to_the_service(site: Site) -> None:
    assert site.root("find /opt/hockey-hub ! -user root -o -perm /022 ! -type l | head -3") == ""

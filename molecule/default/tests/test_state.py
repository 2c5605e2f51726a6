"""How the host must be after converging, and after a reboot alike: running, enabled, listening where it should and nowhere else."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from people import Talk, wait_for
from site_under_test import Site
from testinfra.host import Host

UNITS = (
    "nginx.service",
    "hockey-hub-chat.service",
    "hockey-hub-chat.socket",
    "redis-server.service",
    "postgresql.service",
)


@pytest.mark.parametrize("unit", UNITS)
def test_runs_and_starts_at_boot(server: Host, unit: str) -> None:
    service = server.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_nothing_failed(site: Site) -> None:
    assert site.root("systemctl --failed --no-legend --plain") == ""


def test_only_the_public_ports_listen_beyond_loopback(site: Site) -> None:
    lines = site.root("ss -Hlnt").splitlines()
    addresses = {line.split()[3] for line in lines}
    beyond = {a.rsplit(":", 1)[1] for a in addresses if not a.startswith(("127.", "[::1]"))}
    assert beyond == {"22", "80", "443"}, sorted(addresses)


def test_the_site_says_it_is_well(site: Site) -> None:
    wait_for(lambda: site.ask("GET", "/ready").status == 200, 60, "the site is not ready")
    assert site.ask("GET", "/health").status == 200


def test_two_people_chat(site: Site, probe: dict[str, Any], rng: Random) -> None:
    with Talk(site, probe, rng) as talk:
        wait_for(lambda: talk.count() >= 20, 30, "the two did not get to talk")
        talk.judge(talk.finish())


def test_verify_finds_nothing_wrong_and_changes_nothing(site: Site) -> None:
    played = site.play("playbooks/verify.yml")
    assert played.status == 0, played.output[-4000:]
    assert "✗" not in played.output
    changes = {line.split("changed=")[1].split()[0] for line in played.output.splitlines() if "changed=" in line}
    assert changes == {"0"}


def test_the_probe_leaves_nobody_behind(site: Site) -> None:
    query = "SELECT count(*) FROM users WHERE is_probe"
    assert site.root('cd / && runuser -u postgres -- psql -At -d chat_production -c "$1"', query) == "0"

"""The preflight refuses bad inventories and hosts: all problems at once, each with what to do, and no host is touched.

Inventories are made in a temporary folder around the real shared files; `ansible-playbook` runs the controller's half (tag `always`)
for real. The hosts' half is judged by its plain functions; reading a host is proven by the scenario that converges one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_BIN = Path(sys.executable).parent


def pem_pair(days: int = 3650) -> tuple[str, str]:
    """Return an authority's key and certificate, valid for so many days from a day ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    start = datetime.now(timezone.utc) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return pem, certificate.public_bytes(serialization.Encoding.PEM).decode()


def good_secrets() -> dict[str, str]:
    """Return a set of secrets nothing is wrong with."""
    key, certificate = pem_pair()
    return {
        "vault_postgresql_chat_password": "fR7kPq2LmX9vTz4WbN6s",
        "vault_redis_chat_password": "hD3jGy8QcV5uKe1RwA7p",
        "vault_redis_ops_password": "tB9nMz6FsJ2xLd4YgC8v",
        "vault_jwt_private_key": key,
        "vault_tls_ca_private_key": key,
        "vault_tls_ca_certificate": certificate,
    }


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the preflight of the controller against an inventory made of hosts, choices and secrets."""

    def run(
        groups: dict[str, list[str]],
        hosts: dict[str, dict[str, Any]],
        site: dict[str, Any],
        secrets: dict[str, Any],
        *arguments: str,
    ) -> subprocess.CompletedProcess[str]:
        variables = tmp_path / "site" / "group_vars" / "all"
        variables.mkdir(parents=True)
        for number, name in enumerate(("versions", "ports", "wiring")):
            (variables / f"0{number}_{name}.yml").symlink_to(ROOT / "inventories" / "shared" / f"{name}.yml")
        (variables / "10_site.yml").write_text(yaml.safe_dump(site))
        (variables / "vault.yml").write_text(yaml.safe_dump(secrets))
        inventory = {
            "all": {"hosts": hosts, "children": {g: {"hosts": {key: {} for key in m}} for g, m in groups.items()}}
        }
        (tmp_path / "site" / "hosts.yml").write_text(yaml.safe_dump(inventory))
        return subprocess.run(
            [
                str(ANSIBLE_BIN / "ansible-playbook"),
                "-i",
                str(tmp_path / "site"),
                "--tags",
                "always",
                *arguments,
                str(ROOT / "playbooks" / "preflight.yml"),
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


ONE = {"lb": ["box"], "app": ["box"], "postgresql": ["box"], "redis": ["box"]}
GOOD_SITE = {"site_domain": "chat.club.ca", "site_url": "https://chat.club.ca"}


def test_good_inventory_passes_and_no_host_is_touched(judge: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = judge(ONE, {"box": {"ansible_host": "10.9.8.7"}}, GOOD_SITE, good_secrets())
    assert result.returncode == 0, result.stdout
    assert "unreachable=1" not in result.stdout


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--limit", "one")], ids=["run", "check", "limit"])
def test_every_problem_is_said_at_once(
    judge: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...]
) -> None:
    secrets = {
        **good_secrets(),
        "vault_redis_chat_password": "",
        "vault_redis_ops_password": "CHANGE_ME_PLEASE_1234",
        "vault_postgresql_chat_password": "kurz",
        "vault_tls_ca_private_key": pem_pair()[0],
    }
    del secrets["vault_jwt_private_key"]
    result = judge(
        {"lb": ["one", "two"], "app": ["one"], "postgresql": ["one", "two"], "redis": [], "etcd": ["one", "two"]},
        {
            "one": {"ansible_host": "10.9.8.7", "chat_domain": "old.club.ca"},
            "two": {"ansible_host": "10.9.8.7"},
            "three": {"ansible_host": "box.club.ca"},
            "four": {"ansible_host": "192.0.2.4"},
        },
        {"site_domain": "https://chat.club.ca/", "site_url": ["https://chat.club.ca"], "node_env": "production"},
        secrets,
        *arguments,
    )
    assert result.returncode != 0
    for sentence in (
        "Group 'redis' has no host",
        "Group 'postgresql' has 2 hosts; at most 1",
        "Group 'etcd' has 2 members, an even number",
        "Host 'three' is in none of the groups",
        "Hosts 'one' and 'two' have the same address 10.9.8.7",
        "site_domain 'https://chat.club.ca/' is neither a host name nor an IP address",
        "site_url must be a text",
        "Missing or empty secrets: vault_jwt_private_key, vault_redis_chat_password",
        "vault_redis_ops_password is still a placeholder",
        "vault_postgresql_chat_password is shorter than 16",
        "vault_tls_ca_private_key does not belong to vault_tls_ca_certificate",
        "Variable 'chat_domain' is no longer read: use 'site_domain'",
        "Variable 'node_env' is no longer read: remove it",
    ):
        assert sentence in result.stdout, f"{sentence!r} is not in:\n{result.stdout}"
    for secret in ("CHANGE_ME_PLEASE_1234", "kurz", "BEGIN PRIVATE KEY"):
        assert secret not in result.stdout + result.stderr


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """The role's plain functions."""
    path = ROOT / "roles" / "preflight" / "filter_plugins" / "preflight.py"
    spec = importlib.util.spec_from_file_location("preflight_rules", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("domain", "url", "said"),
    [
        ("chat.club.ca", "https://chat.club.ca", ""),
        ("10.213.0.11", "https://10.213.0.11", ""),
        ("fd00::5", "https://[fd00::5]:8443", ""),
        ("chat.club.ca", "http://chat.club.ca", "must be https://"),
        ("chat.club.ca", "https://chat.club.ca/", "must be https://"),
        ("chat.club.ca", "https://chat.club.ca:many", "is not a URL"),
        ("chat.club.ca", "https://www.club.ca", "is not on site_domain"),
        ("chat.example.org", "https://chat.example.org", "still the example"),
        ("192.0.2.10", "https://192.0.2.10", "still the example"),
        ("10.213.0.999", "https://10.213.0.999", "neither a host name nor an IP address"),
        (7, "https://chat.club.ca", "site_domain must be a text"),
        (None, None, "site_url must be a text"),
    ],
)
def test_site_name_and_url(rules: ModuleType, domain: Any, url: Any, said: str) -> None:
    problems = rules._site(domain, url)
    assert (said in " ".join(problems)) if said else problems == []


@pytest.mark.parametrize(("count", "refused"), [(0, False), (1, False), (2, True), (3, False), (4, True)])
def test_even_etcd_is_refused(rules: ModuleType, count: int, refused: bool) -> None:
    hosts = [f"h{n}" for n in range(count)]
    given = {
        "members": {"all": hosts, "etcd": hosts},
        "addresses": {h: f"10.0.0.{n + 1}" for n, h in enumerate(hosts)},
        "known_groups": ["etcd"],
        "needed_groups": [],
        "group_limits": {},
    }
    assert any("even number" in p for p in rules._hosts(given)) is refused


def test_authority_near_its_end_is_refused(rules: ModuleType) -> None:
    assert "ends in" in rules._authority(*pem_pair(days=20))[0]
    assert rules._authority(*pem_pair()) == []


def test_old_ansible_is_refused(rules: ModuleType) -> None:
    given = {
        "ansible_version": "2.16.3",
        "ansible_minimum": "2.19",
        "secrets": {},
        "domain": "chat.club.ca",
        "url": "https://chat.club.ca",
        "members": {},
        "addresses": {},
        "known_groups": [],
        "needed_groups": [],
        "group_limits": {},
    }
    assert rules.preflight_site_problems(given) == [
        "ansible-core 2.16.3 is older than 2.19. Install requirements.lock (make does)."
    ]
    assert rules.preflight_site_problems({**given, "ansible_version": "2.19.0rc1"}) == []


HOST = {
    "facts": {
        "distribution": "Debian",
        "distribution_version": "12.11",
        "service_mgr": "systemd",
        "memtotal_mb": 16000,
        "processor_nproc": 4,
    },
    "supported": {"Debian": ["12", "13"], "Ubuntu": ["22.04"]},
    "memory_minimum_mb": 7500,
    "cpu_minimum": 4,
    "disk_free_mb": 50000,
    "disk_free_minimum_mb": 20000,
    "ports": [{"port": 443, "owners": ["nginx"]}, {"port": 6379, "owners": ["redis-server"]}],
    "listeners": [],
}
SS = """\
LISTEN 0 511  0.0.0.0:443       0.0.0.0:* users:(("apache2",pid=7,fd=4),("apache2",pid=8,fd=4))
LISTEN 0 511     [::]:443          [::]:* users:(("apache2",pid=7,fd=5))
LISTEN 0 511 127.0.0.1:6379     0.0.0.0:* users:(("redis-server",pid=9,fd=6))
LISTEN 0 4096 127.0.0.53%lo:53  0.0.0.0:* users:(("systemd-resolve",pid=3,fd=14))
"""


def test_good_host_passes(rules: ModuleType) -> None:
    assert rules.preflight_host_problems(HOST) == []


def test_bad_host_is_refused_with_every_reason(rules: ModuleType) -> None:
    facts = {
        "distribution": "Fedora",
        "distribution_version": "41",
        "service_mgr": "sysvinit",
        "memtotal_mb": 1900,
        "processor_nproc": 1,
    }
    said = " ".join(
        rules.preflight_host_problems(
            {**HOST, "facts": facts, "disk_free_mb": 900, "listeners": rules.preflight_listeners(SS)}
        )
    )
    for part in ("Fedora 41 is not supported", "sysvinit", "1900 MB of memory", "1 processors", "900 MB free"):
        assert part in said
    assert "Port 443 is held by apache2" in said
    assert "6379" not in said


@pytest.mark.parametrize(
    ("version", "supported"), [("12", True), ("12.11", True), ("1", False), ("120", False), ("11", False)]
)
def test_version_is_matched_by_whole_numbers(rules: ModuleType, version: str, supported: bool) -> None:
    facts = {**HOST["facts"], "distribution_version": version}  # type: ignore[dict-item]
    assert (rules.preflight_host_problems({**HOST, "facts": facts}) == []) is supported

"""Filters that judge an inventory and a host's facts, and answer with sentences; they read, and change nothing.

Each sentence says what is wrong and what to do. No secret's value is ever part of one.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError:  # said as a problem of its own below
    x509 = None

EXAMPLE_NETWORKS = [
    ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
EXAMPLE_NAME = re.compile(r"(^|\.)(example|example\.(com|net|org)|invalid)$", re.I)
PLACEHOLDER = re.compile(
    r"change.?me|placeholder|to.?do\b|^x{3,}|your.|example|^(secret|password|passw0rd|secure_password)", re.I
)
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I)
PASSWORD_LENGTH_MINIMUM = 16


def ip_or_none(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address a text spells, or None."""
    try:
        return ipaddress.ip_address(str(text).strip("[]"))
    except ValueError:
        return None


def is_example(text: str) -> bool:
    """Tell whether a name or address is one reserved for documentation."""
    address = ip_or_none(text)
    if address is None:
        return bool(EXAMPLE_NAME.search(text))
    return any(address in network for network in EXAMPLE_NETWORKS)


def version_of(text: object) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"2.19.14rc1"`` is ``(2, 19, 14)``."""
    return tuple(int(n) for n in re.findall(r"\d+", str(text))[:3])


def _secrets(secrets: dict[str, Any]) -> list[str]:
    problems = []
    missing = sorted(name for name, value in secrets.items() if value is None or not str(value).strip())
    if missing:
        problems.append(
            f"Missing or empty secrets: {', '.join(missing)}. Run: make secrets SITE=<inventory> (an empty line in vault.yml: remove it first)."
        )
    for name, value in sorted(secrets.items()):
        text = str(value or "").strip()
        if not text:
            continue
        if name.endswith(("_key", "_certificate")):
            if "-----BEGIN " not in text:
                problems.append(f"{name} is not PEM. Remove it from vault.yml and run: make secrets SITE=<inventory>.")
        elif PLACEHOLDER.search(text):
            problems.append(
                f"{name} is still a placeholder. Remove it from vault.yml and run: make secrets SITE=<inventory>."
            )
        elif len(text) < PASSWORD_LENGTH_MINIMUM:
            problems.append(f"{name} is shorter than {PASSWORD_LENGTH_MINIMUM} characters. Use a longer one.")
    return problems


def _authority(key: str, certificate: str) -> list[str]:
    if "-----BEGIN " not in str(key) or "-----BEGIN " not in str(certificate):
        return []  # already said
    if x509 is None:
        return [
            "The control side's Python lacks 'cryptography', which signs certificates. Install requirements.lock (make does)."
        ]
    try:
        ca = x509.load_pem_x509_certificate(str(certificate).encode())
        private = load_pem_private_key(str(key).encode(), None)
    except (ValueError, TypeError) as error:
        return [
            f"The certificate authority in vault.yml cannot be read ({error}). Restore vault_tls_ca_* from your copy."
        ]
    problems = []
    if ca.public_key() != private.public_key():
        problems.append(
            "vault_tls_ca_private_key does not belong to vault_tls_ca_certificate. Restore both from your copy."
        )
    left = ca.not_valid_after_utc - datetime.now(timezone.utc)
    if left < timedelta(days=30):
        problems.append(
            f"The certificate authority ends in {left.days} days. Remove vault_tls_ca_* from vault.yml, run make secrets, then site.yml on every host."
        )
    return problems


def _site(domain: Any, url: Any) -> list[str]:
    problems = []
    if not isinstance(domain, str) or not domain:
        problems.append(
            "site_domain must be a text: the name people type, such as chat.club.ca. Set it in 10_site.yml."
        )
        domain = None
    elif ip_or_none(domain) is None and (not HOST_NAME.fullmatch(domain) or domain[-1].isdigit()):
        problems.append(
            f"site_domain '{domain}' is neither a host name nor an IP address: no https://, no port, no path. Mend it in 10_site.yml."
        )
    elif is_example(domain):
        problems.append(f"site_domain '{domain}' is still the example. Set yours in 10_site.yml.")
    if not isinstance(url, str) or not url:
        problems.append('site_url must be a text such as "https://{{ site_domain }}". Set it in 10_site.yml.')
        return problems
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return [*problems, f"site_url '{url}' is not a URL ({error}). Mend it in 10_site.yml."]
    if parts.scheme != "https" or not host or parts.path or parts.query or parts.fragment or parts.username:
        problems.append(
            f"site_url '{url}' must be https://, a host and at most a port, without a path or a slash at its end."
        )
    elif domain and host != domain.strip("[]").lower():
        problems.append(
            f"site_url '{url}' is not on site_domain '{domain}': browsers would be refused. Make them agree in 10_site.yml."
        )
    return problems


def _hosts(given: dict[str, Any]) -> list[str]:
    members: dict[str, list[str]] = given["members"]
    problems = [
        f"Group '{g}' has no host. Name at least one in hosts.yml."
        for g in given["needed_groups"]
        if not members.get(g)
    ]
    for group, most in given["group_limits"].items():
        if len(members.get(group, [])) > int(most):
            problems.append(
                f"Group '{group}' has {len(members[group])} hosts; at most {most} can be used. Remove hosts from it in hosts.yml."
            )
    etcd = len(members.get("etcd", []))
    if etcd and etcd % 2 == 0:
        problems.append(
            f"Group 'etcd' has {etcd} members, an even number, which survives no more failures than {etcd - 1}. Use 1, 3 or 5."
        )
    placed = {host for group in given["known_groups"] for host in members.get(group, [])}
    for host in members.get("all", []):
        if host not in placed and host != "localhost":
            problems.append(
                f"Host '{host}' is in none of the groups {', '.join(given['known_groups'])}. Place it, or take it out."
            )
    seen: dict[str, str] = {}
    for host, address in given["addresses"].items():
        if host not in placed:
            continue
        if ip_or_none(address) is None:
            problems.append(
                f"Host '{host}': its address '{address}' is not an IP address. Set host_address for it in hosts.yml."
            )
        elif is_example(str(address)):
            problems.append(f"Host '{host}': {address} is still the example. Set its address in hosts.yml.")
        elif str(address) in seen:
            problems.append(
                f"Hosts '{seen[str(address)]}' and '{host}' have the same address {address}. List a host once, by one name."
            )
        seen.setdefault(str(address), host)
    return problems


def preflight_site_problems(given: dict[str, Any]) -> list[str]:
    """Return what is wrong with the inventory as a whole.

    Args:
        given: ``ansible_version, ansible_minimum, secrets {name: value}, domain, url, members {group: [host]}, addresses {host: ip},
            known_groups, needed_groups, group_limits {group: most}``.
    """
    problems = []
    if version_of(given["ansible_version"]) < version_of(given["ansible_minimum"]):
        problems.append(
            f"ansible-core {given['ansible_version']} is older than {given['ansible_minimum']}. Install requirements.lock (make does)."
        )
    problems += _hosts(given)
    problems += _site(given["domain"], given["url"])
    problems += _secrets(given["secrets"])
    if "vault_tls_ca_private_key" in given["secrets"]:
        problems += _authority(
            given["secrets"]["vault_tls_ca_private_key"] or "", given["secrets"].get("vault_tls_ca_certificate") or ""
        )
    return problems


def preflight_renamed_problems(names: list[str], renamed: dict[str, str]) -> list[str]:
    """Return a sentence for each variable in use whose name is no longer read."""
    return [
        f"Variable '{name}' is no longer read" + (f": use '{renamed[name]}'." if renamed[name] else ": remove it.")
        for name in sorted(names)
        if name in renamed
    ]


def preflight_listeners(ss_output: str) -> list[dict[str, Any]]:
    """Return ``[{port, owners}]`` from the output of ``ss -Hltnp``."""
    found = []
    for line in ss_output.splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[3].rpartition(":")[2].isdigit():
            found.append(
                {"port": int(fields[3].rpartition(":")[2]), "owners": sorted(set(re.findall(r'\("([^"]+)",pid', line)))}
            )
    return found


def preflight_host_problems(given: dict[str, Any]) -> list[str]:
    """Return what is wrong with one host.

    Args:
        given: ``facts, supported {distribution: [version]}, memory_minimum_mb, cpu_minimum, disk_free_mb, disk_free_minimum_mb,
            ports [{port, owners}], listeners [{port, owners}]``.
    """
    facts, problems = given["facts"], []
    distribution, version = facts["distribution"], str(facts["distribution_version"])
    versions = [str(v) for v in given["supported"].get(distribution, [])]
    if not any(version == v or version.startswith(v + ".") for v in versions):
        known = "; ".join(f"{name} {', '.join(str(v) for v in vs)}" for name, vs in given["supported"].items())
        problems.append(f"{distribution} {version} is not supported. Supported are: {known}.")
    if facts.get("service_mgr") != "systemd":
        problems.append(f"Its service manager is {facts.get('service_mgr')}; systemd is needed.")
    if int(facts["memtotal_mb"]) < int(given["memory_minimum_mb"]):
        problems.append(
            f"{facts['memtotal_mb']} MB of memory; at least {given['memory_minimum_mb']} are needed. Add memory, or lower preflight_memory_minimum_mb."
        )
    cpus = int(facts.get("processor_nproc") or facts["processor_vcpus"])
    if cpus < int(given["cpu_minimum"]):
        problems.append(
            f"{cpus} processors; at least {given['cpu_minimum']} are needed. Add some, or lower preflight_cpu_minimum."
        )
    if int(given["disk_free_mb"]) < int(given["disk_free_minimum_mb"]):
        problems.append(
            f"{given['disk_free_mb']} MB free below /var; at least {given['disk_free_minimum_mb']} are needed. "
            "Make room, or lower preflight_disk_free_minimum_mb."
        )
    wanted = {int(p["port"]): p["owners"] for p in given["ports"]}
    for port in sorted({listener["port"] for listener in given["listeners"]} & set(wanted)):
        strangers = sorted(
            {o for li in given["listeners"] if li["port"] == port for o in li["owners"]} - set(wanted[port])
        )
        if strangers:
            problems.append(
                f"Port {port} is held by {', '.join(strangers)}. Stop it, or choose another port in 10_site.yml."
            )
    return problems


def preflight_list(problems: list[str], title: str) -> str:
    """Return the problems as one numbered text."""
    return f"{title}\n" + "\n".join(f"{number:>3}. {problem}" for number, problem in enumerate(problems, 1))


class FilterModule:
    """Give Ansible the filters."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {
            f.__name__: f
            for f in (
                preflight_site_problems,
                preflight_renamed_problems,
                preflight_listeners,
                preflight_host_problems,
                preflight_list,
            )
        }

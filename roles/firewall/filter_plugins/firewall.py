"""Filters that turn the rules a role was given into what ufw and the kernel then say of them.

The verification compares these texts with what ``ufw show added``, ``iptables -S`` and ``ip6tables -S`` answer.
"""

from __future__ import annotations

import ipaddress
from typing import Any

COMMENT = "hockey-hub"
ANY = "any"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def firewall_rules(rules: list[dict[str, Any]], ssh_port: int, ssh_sources: list[str]) -> list[dict[str, Any]]:
    """Return one flat rule ``{name, port, proto, source}`` per source, ssh first; ``source`` is ``any`` or a network."""
    ssh = {"name": "ssh", "port": ssh_port, "from": ssh_sources or None}
    flat: list[dict[str, Any]] = []
    for rule in [ssh, *rules]:
        sources = rule.get("from")
        for source in [ANY] if sources is None else sources:
            one = {
                "name": rule["name"],
                "port": int(rule["port"]),
                "proto": rule.get("proto") or "tcp",
                "source": ANY if source == ANY else _short(source),
            }
            if one not in flat:
                flat.append(one)
    return flat


def _short(source: str) -> str:
    network = _network(source)
    return str(network.network_address if network.num_addresses == 1 else network)


def firewall_added(rules: list[dict[str, Any]]) -> list[str]:
    """Return the lines ``ufw show added`` must hold for flat rules."""
    lines = []
    for rule in rules:
        if rule["source"] == ANY:
            what = f"allow {rule['port']}/{rule['proto']}"
        else:
            what = f"allow from {rule['source']} to any port {rule['port']} proto {rule['proto']}"
        lines.append(f"ufw {what} comment '{COMMENT} {rule['name']}'")
    return lines


def firewall_kernel(rules: list[dict[str, Any]], version: int) -> list[str]:
    """Return the lines ``iptables -S ufw-user-input`` (version 4) or ``ip6tables -S ufw6-user-input`` (6) must hold, sorted."""
    chain = "ufw-user-input" if version == 4 else "ufw6-user-input"
    lines = []
    for rule in rules:
        source = ""
        if rule["source"] != ANY:
            network = _network(rule["source"])
            if network.version != version:
                continue
            source = f" -s {network}"
        lines.append(f"-A {chain}{source} -p {rule['proto']} -m {rule['proto']} --dport {rule['port']} -j ACCEPT")
    return sorted(lines)


def firewall_admits(connection: str, port: int, sources: list[str]) -> bool:
    """Tell whether the ssh connection of ``SSH_CONNECTION`` (client, its port, server, its port) would be let in.

    An empty text means Ansible does not come over ssh, which no rule can lock out.
    """
    fields = connection.split()
    if len(fields) != 4:
        return True
    client = ipaddress.ip_address(fields[0].partition("%")[0])
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped:
        client = client.ipv4_mapped
    known = not sources or any(client.version == _network(s).version and client in _network(s) for s in sources)
    return known and int(fields[3]) == int(port)


class FilterModule:
    """Give Ansible the filters."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {f.__name__: f for f in (firewall_rules, firewall_added, firewall_kernel, firewall_admits)}

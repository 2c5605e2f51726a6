#!/usr/bin/env python3
"""Give a sandbox its own network, or take it away again.

    network.py up   --state-dir DIR --name NAME --network 10.0.0.0/16 --hosts a,b,c
    network.py down --state-dir DIR --name NAME

``up`` chooses a /24 that no interface, route or other sandbox uses, writes it with every host's address to ``NAME/state.json``, makes
the bridge ``hhsN`` and a masquerade table of its own, and turns forwarding on. It changes only what is not yet so. ``down`` undoes
that; with the last sandbox ``ip_forward`` gets the value it had before the first. Both hold a lock, so sandboxes made at the same
moment never choose the same network. Prints ``{"changed": bool, "state": {...}}``.

It must not touch a rule, route or interface it did not make. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FIRST_HOST = 11


class NetworkError(Exception):
    """The network cannot be made; the message is one sentence for a person."""


def run(*argv: str, stdin: str | None = None) -> str:
    """Run a command and return its output; its own words are the error."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def succeeds(*argv: str) -> bool:
    """Tell whether a command that only asks answers yes."""
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold the lock that all sandboxes of this computer share."""
    state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (state_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_states(state_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the state of every sandbox that has a network, by name."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(state_dir.glob("*/state.json"))}


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new text, never a part."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def used_networks() -> list[ipaddress.IPv4Network]:
    """Return every IPv4 network this computer has an address in or a route to, the default route aside."""
    destinations = [route["dst"] for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))]
    networks = []
    for text in destinations:
        if text != "default":
            networks.append(ipaddress.IPv4Network(text, strict=False))
    return networks


def choose(state_dir: Path, network: ipaddress.IPv4Network) -> tuple[int, ipaddress.IPv4Network]:
    """Return the number and the /24 of a network that is free.

    Raises:
        NetworkError: every /24 of ``network`` is taken.
    """
    taken = used_networks()
    taken += [ipaddress.IPv4Network(state["subnet"]) for state in read_states(state_dir).values()]
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    for number, subnet in enumerate(network.subnets(new_prefix=24)):
        if f"hhs{number}" not in links and not any(subnet.overlaps(other) for other in taken):
            return number, subnet
    raise NetworkError(f"Every /24 of {network} is in use on this computer; set sandbox_network to another network.")


def give_addresses(state: dict[str, Any], hosts: list[str]) -> bool:
    """Give each host that has none the next address; addresses never move. Return whether any was given."""
    subnet = ipaddress.IPv4Network(state["subnet"])
    used = {entry["address"] for entry in state["hosts"].values()}
    free = (str(subnet[i]) for i in range(FIRST_HOST, 255) if str(subnet[i]) not in used)
    missing = [host for host in hosts if host not in state["hosts"]]
    for host in missing:
        address = next(free)
        # Short enough for the name of its network link (15 characters), whatever the host is called.
        state["hosts"][host] = {"address": address, "machine": f"{state['bridge']}-{address.rsplit('.', 1)[1]}"}
    return bool(missing)


def forward_rules(bridge: str) -> list[list[str]]:
    """Return the arguments of the two iptables rules that let a bridge through a dropping FORWARD chain."""
    comment = ["-m", "comment", "--comment", "hockey-hub-sandbox", "-j", "ACCEPT"]
    return [["FORWARD", "-i", bridge, *comment], ["FORWARD", "-o", bridge, *comment]]


def ensure_link(state: dict[str, Any]) -> bool:
    """Make the bridge with its address, if it is not there."""
    bridge = state["bridge"]
    if Path(f"/sys/class/net/{bridge}").exists():
        return False
    run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
    run("ip", "address", "add", f"{state['gateway']}/24", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    return True


def ensure_masquerade(state: dict[str, Any]) -> bool:
    """Let the hosts reach the outside: a masquerade table, and a way past other programs' dropping FORWARD policy."""
    table, changed = f"hockey_hub_{state['bridge']}", False
    if not succeeds("nft", "list", "table", "ip", table):
        rule = f'ip saddr {state["subnet"]} oifname != "{state["bridge"]}" masquerade;'
        chain = f"chain postrouting {{ type nat hook postrouting priority srcnat; {rule} }}"
        run("nft", "-f", "-", stdin=f"table ip {table} {{\n{chain}\n}}\n")
        changed = True
    # Docker and ufw set the policy of iptables' FORWARD chain to DROP; an accept in a table of our own cannot overrule it.
    if shutil.which("iptables") and run("iptables", "-w", "-S", "FORWARD").startswith("-P FORWARD DROP"):
        for rule_args in forward_rules(state["bridge"]):
            if not succeeds("iptables", "-w", "-C", *rule_args):
                run("iptables", "-w", "-I", *rule_args)
                changed = True
    return changed


def ensure_forwarding(state_dir: Path) -> bool:
    """Turn IPv4 forwarding on and remember what it was."""
    if FORWARD.read_text().strip() == "1":
        return False
    before = state_dir / ".ip_forward.before"
    if not before.exists():
        write_atomically(before, FORWARD.read_text())
    FORWARD.write_text("1\n")
    return True


def up(state_dir: Path, name: str, network: ipaddress.IPv4Network, hosts: list[str]) -> dict[str, Any]:
    """Make the network of a sandbox, or what of it is missing."""
    path = state_dir / name / "state.json"
    state = read_states(state_dir).get(name)
    changed = state is None
    if state is None:
        number, subnet = choose(state_dir, network)
        state = {"name": name, "bridge": f"hhs{number}", "subnet": str(subnet), "gateway": str(subnet[1]), "hosts": {}}
    if give_addresses(state, hosts) or changed:
        path.parent.mkdir(mode=0o711, exist_ok=True)
        write_atomically(path, json.dumps(state, indent=2) + "\n")
        changed = True
    for done in (ensure_link(state), ensure_masquerade(state), ensure_forwarding(state_dir)):
        changed = changed or done
    return {"changed": changed, "state": state}


def down(state_dir: Path, name: str) -> dict[str, Any]:
    """Remove the network of a sandbox, whatever is left of it."""
    state = read_states(state_dir).get(name)
    if state is None:
        return {"changed": False, "state": {}}
    bridge = state["bridge"]
    if succeeds("nft", "list", "table", "ip", f"hockey_hub_{bridge}"):
        run("nft", "delete", "table", "ip", f"hockey_hub_{bridge}")
    if shutil.which("iptables"):
        for rule_args in forward_rules(bridge):
            while succeeds("iptables", "-w", "-C", *rule_args):
                run("iptables", "-w", "-D", *rule_args)
    if Path(f"/sys/class/net/{bridge}").exists():
        run("ip", "link", "delete", bridge)
    (state_dir / name / "state.json").unlink()
    before = state_dir / ".ip_forward.before"
    if before.exists() and not read_states(state_dir):
        FORWARD.write_text(before.read_text())
        before.unlink()
    return {"changed": True, "state": {}}


def main() -> int:
    """Read the arguments, do it, print the result as JSON."""
    parser = argparse.ArgumentParser(description="Give a sandbox its own network, or take it away again.")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--network", type=ipaddress.IPv4Network, default=ipaddress.IPv4Network("10.213.0.0/16"))
    parser.add_argument("--hosts", default="")
    args = parser.parse_args()
    os.umask(0o022)
    try:
        with locked(args.state_dir):
            if args.action == "up":
                result = up(args.state_dir, args.name, args.network, [h for h in args.hosts.split(",") if h])
            else:
                result = down(args.state_dir, args.name)
    except NetworkError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

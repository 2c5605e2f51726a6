"""Render every template of every role as Ansible would, for one inventory and one recorded system.

Owns the way there: a throw-away vault, a throw-away sandbox state and stand-in roles that keep defaults, variables and templates
but whose tasks only render. Touches no host and no network; nothing is written outside the given folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ROLES = sorted(p.name for p in (ROOT / "roles").iterdir() if (p / "tasks").is_dir())
FACTS = sorted(p.stem for p in (HERE / "facts").glob("*.json"))
#: Inventories a person would run against. Folders without hosts.yml (shared/) are not sites.
INVENTORIES = sorted(p.parent.name for p in (ROOT / "inventories").glob("*/hosts.yml"))
SANDBOX_SYSTEMS = ("debian-12-container",)
ANSIBLE_BIN = Path(sys.executable).parent


#: What the sandbox role writes down about the hosts it made.
SANDBOX_STATE = {
    "name": "demo",
    "bridge": "hhs0",
    "subnet": "198.51.100.0/24",
    "gateway": "198.51.100.1",
    "hosts": {"rink1": {"address": "198.51.100.11", "machine": "hhs0-11"}},
}


@dataclass(frozen=True)
class Rendered:
    """Where the results of one inventory and system lie: ``<out>/<host>/<role>/<target path>``."""

    inventory: str
    system: str
    out: Path

    def files(self, pattern: str) -> list[Path]:
        """Return rendered files whose path matches a glob such as ``chat_app/**/*.service``, for every host."""
        return sorted(p for p in self.out.glob(f"*/{pattern}") if p.is_file())


def roles_of(inventory: str) -> list[str]:
    """Return the roles that render something on that inventory's hosts: the sandbox is only for sandboxes."""
    return [r for r in ROLES if templates_of(r) and (r != "sandbox" or inventory.startswith("sandbox"))]


def templates_of(role: str) -> list[str]:
    """Return a role's template paths relative to its ``templates/``."""
    base = ROOT / "roles" / role / "templates"
    return sorted(str(p.relative_to(base)) for p in base.rglob("*.j2")) if base.is_dir() else []


def family_vars(role: str, facts: dict[str, object]) -> list[str]:
    """Return the variable files the role would load on that system, most general first."""
    base = ROOT / "roles" / role / "vars"
    names = [
        str(facts["os_family"]),
        str(facts["distribution"]),
        f"{facts['distribution']}-{facts['distribution_major_version']}",
        f"{facts['distribution']}-{facts['distribution_version']}",
    ]
    return [str(base / f"{n}.yml") for n in names if (base / f"{n}.yml").is_file()]


def stand_in_roles(to: Path) -> None:
    """Make roles of the same names, variables and templates whose only task is to render."""
    for role in ROLES:
        (to / role / "tasks").mkdir(parents=True, exist_ok=True)
        for part in ("defaults", "vars", "templates", "files"):
            source = ROOT / "roles" / role / part
            if source.is_dir():
                shutil.copytree(source, to / role / part, dirs_exist_ok=True)
        shutil.copy(HERE / "render_tasks.yml", to / role / "tasks" / "main.yml")


def render(inventory: str, system: str, work: Path) -> Rendered:
    """Render everything; raises AssertionError with Ansible's own words when a template does not render."""
    facts = json.loads((HERE / "facts" / f"{system}.json").read_text())
    roles_dir, out = work / "roles", work / "out"
    stand_in_roles(roles_dir)
    state = work / "sandbox" / "demo" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps(SANDBOX_STATE))
    extra = {
        "ansible_become": False,  # nothing here needs root
        "contract_out": str(out),
        "contract_runtime_vars": str(HERE / "runtime_vars.yml"),
        "contract_templates": {r: templates_of(r) for r in ROLES},
        "contract_family_vars": {r: family_vars(r, facts) for r in ROLES},
        **yaml.safe_load((HERE / "vault_for_tests.yml").read_text()),
    }
    (work / "extra.json").write_text(json.dumps(extra))
    play = [
        {
            "name": "Render",
            "hosts": "all",
            "connection": "local",
            "gather_facts": False,
            "tasks": [
                {
                    "name": "Recorded facts",
                    "recorded_facts": {"path": str(HERE / "facts" / f"{system}.json")},
                },
                *(
                    {
                        "name": f"Render {role}",
                        "ansible.builtin.include_role": {"name": role},
                        "vars": {"contract_role": role},
                    }
                    for role in roles_of(inventory)
                ),
            ],
        }
    ]
    (work / "render.yml").write_text(yaml.safe_dump(play, sort_keys=False))
    result = subprocess.run(
        [
            str(ANSIBLE_BIN / "ansible-playbook"),
            "-i",
            str(ROOT / "inventories" / inventory),
            "-e",
            f"@{work / 'extra.json'}",
            str(work / "render.yml"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "SANDBOX_NAME": "demo",
            "SANDBOX_STATE_DIR": str(work / "sandbox"),
            "ANSIBLE_ROLES_PATH": str(roles_dir),
            "ANSIBLE_LIBRARY": str(HERE / "library"),
            "ANSIBLE_LOCAL_TEMP": str(work / "tmp"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{inventory} on {system}:\n{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
    for host in out.iterdir():
        for role in roles_of(inventory):
            missing = [t for t in templates_of(role) if not (host / role / t.removesuffix(".j2")).is_file()]
            assert not missing, f"{inventory} on {system}: {role} did not render {missing}"
    return Rendered(inventory, system, out)

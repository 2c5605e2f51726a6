"""Every role keeps the house rules: documented, typed, ignorant of the rest of the fleet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from render import INVENTORIES, ROLES, ROOT

WIRING = ROOT / "inventories" / "shared" / "wiring.yml"


class _Loader(yaml.SafeLoader):
    """YAML as Ansible reads it: a vaulted value is a string."""


_Loader.add_constructor("!vault", lambda loader, node: loader.construct_scalar(node))  # type: ignore[no-untyped-call]


def load(path: Path) -> Any:
    """Return a YAML file's content, an empty mapping when it is empty."""
    return yaml.load(path.read_text(), Loader=_Loader) or {}  # noqa: S506 - a safe loader


def argument_options(role: str) -> dict[str, Any]:
    """Return a role's documented variables, of all its entry points."""
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", ROLES)
def test_role_has_its_parts(role: str) -> None:
    base = ROOT / "roles" / role
    for part in (
        "README.md",
        "defaults/main.yml",
        "meta/argument_specs.yml",
        "tasks/main.yml",
    ):
        assert (base / part).is_file(), f"roles/{role}/{part} is missing"
    lines = (base / "README.md").read_text().splitlines()
    assert len(lines) <= 40, f"roles/{role}/README.md has {len(lines)} lines; 40 are enough for a tired reader"


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_agree_with_defaults(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    options = argument_options(role)
    internal = {name for name in defaults if name.startswith("__")}
    undocumented = set(defaults) - set(options) - internal
    assert not undocumented, f"roles/{role}: defaults without an argument spec: {sorted(undocumented)}"
    for name, spec in options.items():
        if spec.get("required"):
            assert name not in defaults, f"roles/{role}: {name} is required, yet has a default"
        else:
            assert name in defaults, f"roles/{role}: {name} is optional, yet has no default"
        if "default" in spec and name in defaults and "{{" not in str(defaults[name]):
            assert spec["default"] == defaults[name], f"roles/{role}: {name} has two different defaults"
        assert spec.get("description"), f"roles/{role}: {name} has no description"


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_roles_name(role: str) -> None:
    foreign = [n for n in argument_options(role) if not n.startswith(f"{role}_")]
    assert not foreign, f"roles/{role}: variables without the role's name: {foreign}"


def code_files() -> list[Path]:
    return [
        p
        for top in ("roles", "playbooks", "inventories")
        for p in (ROOT / top).rglob("*")
        if p.is_file() and not p.is_symlink() and p.suffix in {".yml", ".j2", ".yaml"}
    ] + [ROOT / "site.yml"]


def test_only_the_wiring_names_groups_and_other_hosts() -> None:
    names = re.compile(r"\b(groups\s*[\[.]|hostvars\s*[\[.])")
    guilty = [
        f"{p.relative_to(ROOT)}:{n}"
        for p in code_files()
        if p != WIRING
        for n, line in enumerate(p.read_text().splitlines(), 1)
        if names.search(line) and not line.lstrip().startswith("#")
    ]
    assert not guilty, "only inventories/shared/wiring.yml may name groups or hosts: " + ", ".join(guilty)


def test_no_secret_has_a_default() -> None:
    for role in ROLES:
        defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
        for name, value in defaults.items():
            if re.search(r"(password|secret|private_key)$", name) and "path" not in name:
                assert value in ("", None), f"roles/{role}: {name} has a default"


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_inventory_links_the_shared_files(inventory: str) -> None:
    base = ROOT / "inventories" / inventory / "group_vars" / "all"
    for link, target in {
        "00_versions.yml": "versions.yml",
        "01_ports.yml": "ports.yml",
        "02_wiring.yml": "wiring.yml",
    }.items():
        assert (base / link).is_symlink(), f"{inventory}: {link} must be a link"
        assert (base / link).resolve() == ROOT / "inventories" / "shared" / target


def test_no_file_is_longer_than_a_newcomer_can_hold() -> None:
    long = [
        (str(p.relative_to(ROOT)), n)
        for top in (
            "roles",
            "playbooks",
            "inventories",
            "app",
            "tests",
            "library",
            "scripts",
            "molecule",
        )
        for p in (ROOT / top).rglob("*")
        if p.suffix in {".py", ".yml", ".js", ".css", ".sh"}
        and not {"vendor", "node_modules", "versions"} & set(p.parts)
        and (n := len(p.read_text(errors="replace").splitlines())) > 500
    ]
    assert not long, long

"""Releases are named by what they are made of, and built the same way twice."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "roles/chat_app/files/build_release.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_release", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_release"] = module
    spec.loader.exec_module(module)
    return module


build_release = load()
BOOKWORM = build_release.Target("3.11.2", "x86_64", "2.36")
JAMMY = build_release.Target("3.10.12", "x86_64", "2.35")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small application with nothing to download."""
    folder = tmp_path / "app"
    (folder / "src/tiny").mkdir(parents=True)
    (folder / "src/tiny/__init__.py").write_text("VALUE = 1\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "tiny"\nversion = "1.2.3"\nrequires-python = ">=3.10"\n[tool.hatch.build.targets.wheel]\npackages = ["src/tiny"]\n'
    )
    (folder / "requirements.lock").write_text("# nothing\n")
    return folder


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first = build_release.build(source, tmp_path / "one", tmp_path / "cache", BOOKWORM)
    second = build_release.build(source, tmp_path / "two", tmp_path / "cache", BOOKWORM)
    assert first["release"] == second["release"]
    assert first["sha256"] == second["sha256"]
    assert build_release.build(source, tmp_path / "one", tmp_path / "cache", BOOKWORM)["changed"] is False


def test_every_wheel_is_in_the_archive_with_its_hash(source: Path, tmp_path: Path) -> None:
    built = build_release.build(source, tmp_path / "out", tmp_path / "cache", BOOKWORM)
    with tarfile.open(built["archive"]) as tar:
        wheel = tar.extractfile("wheels/tiny-1.2.3-py3-none-any.whl")
        pins = tar.extractfile("requirements.txt")
        assert wheel is not None and pins is not None
        assert hashlib.sha256(wheel.read()).hexdigest() in pins.read().decode()


def test_source_pins_and_target_all_change_the_name(source: Path) -> None:
    def name(target: object = BOOKWORM) -> str:
        pins = build_release.read_lock(source / "requirements.lock", target)
        return str(build_release.release_name(source, pins, target))

    names = [name(), name(JAMMY)]
    (source / "src/tiny/__init__.py").write_text("VALUE = 2\n")
    names.append(name())
    (source / "requirements.lock").write_text("left-pad==1 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    names.append(name())
    assert len(set(names)) == 4
    assert all(n.startswith("1.2.3-") for n in names)
    (source / "src/tiny/__pycache__").mkdir()
    (source / "src/tiny/__pycache__/x.pyc").write_bytes(b"x")
    assert name() == names[-1]


def test_pins_are_chosen_for_the_target_not_for_this_python() -> None:
    lock = ROOT / "app/requirements.lock"
    names = {t.python: {p.name: p.version for p in build_release.read_lock(lock, t)} for t in (BOOKWORM, JAMMY)}
    assert "tomli" in names["3.10.12"] and "tomli" not in names["3.11.2"]
    assert "tzdata" not in names["3.11.2"]  # for Windows only


def test_a_pin_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("flask==3.1.3\n")
    with pytest.raises(build_release.BuildError, match="not a pinned line"):
        build_release.read_lock(tmp_path / "lock", BOOKWORM)


def test_a_cached_wheel_with_another_hash_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "tiny-1.2.3-py3-none-any.whl").write_bytes(b"not what was pinned")
    pin = build_release.Pin("tiny", "1.2.3", frozenset(["0" * 64]))
    assert build_release.cached_wheel(pin, tmp_path, BOOKWORM.tags()) is None

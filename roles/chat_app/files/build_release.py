#!/usr/bin/env python3
"""Build one release of the chat application on the control node: every wheel it needs, hash-checked, in one archive.

Owns the way from ``app/`` (source, lock) to ``build/releases/<release>.tar``; touches no host. The same input gives the
same release name and the same bytes, so a second call only looks. Hosts need no package index: they install from the
archive alone.

The release is named ``<app version>-<hash>``; the hash covers the source, the pins that apply to the target, the
target's Python and machine, and the layout of the archive.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomllib
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

#: Raise it when the layout of the archive changes, so that old archives are not taken for new ones.
LAYOUT = 1
#: Every time stamp in wheel and archive (2020-01-01), so that the same source gives the same bytes.
EPOCH = 1577836800


class BuildError(Exception):
    """The release cannot be built; the message is one sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Target:
    """The Python that will run the release: full version (``3.11.2``), machine (``x86_64``) and glibc (``2.36``)."""

    python: str
    machine: str
    glibc: str

    @property
    def minor(self) -> tuple[int, int]:
        """Return ``(3, 11)``."""
        major, minor = self.python.split(".")[:2]
        return int(major), int(minor)

    def platforms(self) -> list[str]:
        """Return the platform tags such a host accepts, best first (PEP 600, PEP 599, PEP 571, PEP 513)."""
        newest = int(self.glibc.split(".")[1])
        tags = [f"manylinux_2_{n}_{self.machine}" for n in range(newest, 4, -1)]
        legacy = ["manylinux2014", "manylinux2010", "manylinux1"] if newest >= 17 else []
        return [*tags, *(f"{name}_{self.machine}" for name in legacy), f"linux_{self.machine}"]

    def tags(self) -> frozenset[Tag]:
        """Return every wheel tag the target can install."""
        platforms = self.platforms()
        interpreter = "cp{}{}".format(*self.minor)
        return frozenset(
            [
                *cpython_tags(self.minor, platforms=platforms),
                *compatible_tags(self.minor, interpreter=interpreter, platforms=platforms),
            ]
        )

    def environment(self) -> dict[str, str]:
        """Return the marker environment of the target (pip itself would use that of the running Python)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": "{}.{}".format(*self.minor),
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Pin:
    """One line of the lock: ``name==version`` and the hashes it may have."""

    name: str
    version: str
    hashes: frozenset[str]

    def line(self) -> str:
        """Return the pin as a line pip accepts."""
        return f"{self.name}=={self.version} " + " ".join(f"--hash=sha256:{h}" for h in sorted(self.hashes))


def read_lock(lock: Path, target: Target) -> list[Pin]:
    """Return the pins of a lock file that apply to the target; raises BuildError on a line without a hash."""
    pins = []
    text = re.sub(r"\s*\\\n\s*", " ", lock.read_text(encoding="utf-8"))
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        match = re.match(
            r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;]+)(\s*;\s*(?P<marker>.*?))?\s+--hash", line
        )
        if match is None:
            raise BuildError(f"{lock}: not a pinned line with hashes: {line[:80]}")
        marker = match["marker"]
        if marker and not Marker(marker).evaluate(target.environment()):
            continue
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        pins.append(Pin(canonicalize_name(match["name"]), match["version"], hashes))
    return pins


def source_files(source: Path) -> Iterator[Path]:
    """Yield the files a wheel is made of, in a stable order."""
    yield source / "pyproject.toml"
    for path in sorted((source / "src").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path


def release_name(source: Path, pins: list[Pin], target: Target) -> str:
    """Return ``<app version>-<12 hex digits>`` for this source, these pins and this target."""
    version = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    digest = hashlib.sha256()
    digest.update(f"layout {LAYOUT} python {target.minor} {target.machine}\n".encode())
    for pin in pins:
        digest.update(pin.line().encode() + b"\n")
    for path in source_files(source):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(source).as_posix()} {content}\n".encode())
    return f"{version}-{digest.hexdigest()[:12]}"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_wheel(pin: Pin, cache: Path, tags: frozenset[Tag]) -> Path | None:
    """Return the cached wheel of a pin that the target can install and whose hash is in the lock, if there is one."""
    for path in sorted(cache.glob("*.whl")):
        name, version, _, wheel_tags = parse_wheel_filename(path.name)
        if name == pin.name and str(version) == pin.version and wheel_tags & tags and sha256(path) in pin.hashes:
            return path
    return None


def run(argv: list[str], what: str, **options: object) -> None:
    """Run a command; raises BuildError with its last words when it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if result.returncode != 0:
        words = (result.stderr or result.stdout).strip().splitlines()
        raise BuildError(f"{what} failed: " + " | ".join(words[-5:]))


def fetch(pins: list[Pin], cache: Path, target: Target) -> list[Path]:
    """Return the wheel of every pin, downloading into the cache only what is missing there."""
    tags = target.tags()
    missing = [pin for pin in pins if cached_wheel(pin, cache, tags) is None]
    if missing:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write("\n".join(pin.line() for pin in missing) + "\n")
            wanted.flush()
            argv = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
            ]
            argv += ["--implementation=cp", "--python-version={}.{}".format(*target.minor)]
            argv += [f"--platform={name}" for name in target.platforms()]
            run([*argv, "--dest", str(cache), "--requirement", wanted.name], "Downloading the application's wheels")
    wheels = []
    for pin in pins:
        wheel = cached_wheel(pin, cache, tags)
        if wheel is None:
            raise BuildError(f"No wheel of {pin.name} {pin.version} fits Python {target.python} on {target.machine}")
        wheels.append(wheel)
    return wheels


def build_wheel(source: Path, to: Path) -> Path:
    """Build the application's own wheel reproducibly and return it."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(to)]
    run(argv, "Building the application's wheel", cwd=source, env=environment)
    (wheel,) = to.glob("*.whl")
    return wheel


def pack(archive: Path, files: dict[str, Path], texts: dict[str, str], work: Path) -> None:
    """Write an archive whose bytes depend on the contents alone, and move it into place in one step."""
    for name, text in texts.items():
        (work / name).write_text(text, encoding="utf-8")
        files = {**files, name: work / name}
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = files[name].stat().st_size, EPOCH, 0o644
            with files[name].open("rb") as content:
                tar.addfile(entry, content)
    partial.replace(archive)


def build(source: Path, out: Path, cache: Path, target: Target) -> dict[str, object]:
    """Build the release unless its archive exists; return its name, archive, checksum and whether it was built now."""
    pins = read_lock(source / "requirements.lock", target)
    release = release_name(source, pins, target)
    for folder in (out, cache):
        folder.mkdir(parents=True, exist_ok=True)
    archive = out / f"{release}.tar"
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = not archive.exists()
        if changed:
            wheels = fetch(pins, cache, target)
            with tempfile.TemporaryDirectory(dir=out) as folder:
                own = build_wheel(source, Path(folder))
                name, version, *_ = parse_wheel_filename(own.name)
                own_pin = Pin(name, str(version), frozenset([sha256(own)]))
                lines = [
                    Pin(pin.name, pin.version, frozenset([sha256(wheel)])).line()
                    for pin, wheel in zip(pins, wheels, strict=True)
                ]
                about = {"release": release, "python": target.python, "machine": target.machine, "glibc": target.glibc}
                pack(
                    archive,
                    {f"wheels/{path.name}": path for path in [*wheels, own]},
                    {
                        "requirements.txt": "\n".join([*lines, own_pin.line()]) + "\n",
                        "release.json": json.dumps(about, indent=2, sort_keys=True) + "\n",
                    },
                    Path(folder),
                )
    return {"release": release, "archive": str(archive), "sha256": sha256(archive), "changed": changed}


def main() -> int:
    """Print the result as JSON; on failure one sentence on stderr and status 1."""
    parser = argparse.ArgumentParser(description="Build one release of the chat application for one kind of host.")
    parser.add_argument(
        "--source", type=Path, required=True, help="the folder with pyproject.toml, requirements.lock and src/"
    )
    parser.add_argument("--out", type=Path, required=True, help="where archives are kept")
    parser.add_argument("--cache", type=Path, required=True, help="where downloaded wheels are kept")
    parser.add_argument("--python", required=True, help="full version of the host's Python, such as 3.11.2")
    parser.add_argument("--machine", required=True, help="the host's machine, such as x86_64")
    parser.add_argument("--glibc", required=True, help="the host's C library, such as 2.36")
    parser.add_argument("--name-only", action="store_true", help="say which release it would be; build nothing")
    options = parser.parse_args()
    target = Target(options.python, options.machine, options.glibc)
    source = options.source.resolve()
    try:
        if options.name_only:
            name = release_name(source, read_lock(source / "requirements.lock", target), target)
            archive = options.out.resolve() / f"{name}.tar"
            result: dict[str, object] = {"release": name, "archive": str(archive), "changed": not archive.exists()}
        else:
            result = build(source, options.out.resolve(), options.cache.expanduser().resolve(), target)
    except (BuildError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every template renders for every inventory and system, and what comes out is accepted by the program that will read it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from render import ROOT, Rendered

APP_PYTHON = ROOT / "build" / "venv" / "app" / "bin" / "python"


def program(name: str) -> str:
    """Return a checker's path; its absence is a failure that says how to install it, never a pass."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed: run `make test` once as root, or install its package"
    return found


def test_nothing_renders_to_an_undefined_or_python_value(rendered: Rendered) -> None:
    files = rendered.files("**/*")
    assert files
    for file in files:
        text = file.read_text()
        assert "AnsibleUndefined" not in text and "omit_place_holder" not in text, file
        assert not re.search(r"^\s*[\w_-]+\s*[= ]\s*(None|True|False)\s*$", text, re.M), (
            f"{file}: a Python value leaked"
        )
        assert "\r" not in text, file


def test_chat_env_loads_into_the_apps_own_configuration(rendered: Rendered, tmp_path: Path) -> None:
    files = rendered.files("chat_app/**/chat.env")
    assert files
    for n, file in enumerate(files):
        secrets = tmp_path / str(n)
        secrets.mkdir()
        key = secrets / "jwt_private.pem"
        subprocess.run(
            [
                "openssl",
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
                str(key),
            ],
            check=True,
            capture_output=True,
        )
        subprocess.run(
            [
                "openssl",
                "pkey",
                "-in",
                str(key),
                "-pubout",
                "-out",
                str(secrets / "jwt_public.pem"),
            ],
            check=True,
        )
        for name in ("database_password", "redis_password"):
            (secrets / name).write_text("for-this-test-only")
        env = {}
        for line in file.read_text().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.partition("=")
                env[name] = value.strip("'\"")
        # Only the places differ from a host: keys and certificates are looked for in this test's folder.
        for name, stand_in in {
            "JWT_PRIVATE_KEY_PATH": key,
            "JWT_PUBLIC_KEY_PATH": secrets / "jwt_public.pem",
        }.items():
            if name in env:
                env[name] = str(stand_in)
        for name in [n for n in env if n.endswith(("_SSL_ROOT_CERT", "_CA_CERT"))]:
            env[name] = str(secrets / "jwt_public.pem")
        env.update({"SECRETS_DIR": str(secrets), "DATA_DIR": str(secrets)})
        env.pop("PROMETHEUS_MULTIPROC_DIR", None)
        result = subprocess.run(
            [
                str(APP_PYTHON),
                "-c",
                "from hockey_hub_chat.config import Settings, load; print(load().public_url)",
            ],
            env={
                "PYTHONPATH": str(ROOT / "app" / "src"),
                "PATH": "/usr/bin:/bin",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{file}:\n{file.read_text()}\n{result.stderr}"
        assert result.stdout.startswith("https://"), result.stdout


def test_units_are_understood_by_systemd(rendered: Rendered, tmp_path: Path) -> None:
    units = [
        *rendered.files("**/*.service"),
        *rendered.files("**/*.socket"),
        *rendered.files("**/*.timer"),
    ]
    assert units
    for unit in units:
        # The programs are on the host, not here; everything else about the unit is checked.
        text = re.sub(r"^(Exec\w+=[-@:+!]*)\S+", r"\1/bin/true", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text)
    result = subprocess.run(
        [
            program("systemd-analyze"),
            "verify",
            "--man=no",
            *sorted(str(tmp_path / u.name) for u in units),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if any(u.name in line for u in units)]
    assert not ours, "\n".join(ours)


def test_drop_ins_are_understood_by_systemd(rendered: Rendered, tmp_path: Path) -> None:
    drop_ins = rendered.files("**/*.service.d/*.conf")
    assert drop_ins
    for n, drop_in in enumerate(drop_ins):
        unit = tmp_path / f"probe{n}.service"
        text = re.sub(r"^(Exec\w+=[-@:+!]*)\S+", r"\1/bin/true", drop_in.read_text(), flags=re.M)
        (tmp_path / f"{unit.name}.d").mkdir()
        (tmp_path / f"{unit.name}.d" / "ours.conf").write_text(text)
        unit.write_text("[Service]\nExecStart=/bin/true\n")
        result = subprocess.run(
            [program("systemd-analyze"), "verify", "--man=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = [line for line in result.stderr.splitlines() if unit.name in line]
        assert not ours, f"{drop_in}: {ours}"


NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_nginx_accepts_its_configuration(rendered: Rendered, tmp_path: Path) -> None:
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=chat.example.org",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    mains = rendered.files("load_balancer/etc/nginx/nginx.conf")
    assert mains
    for n, main in enumerate(mains):
        etc = tmp_path / str(n)
        shutil.copytree(main.parent, etc)
        for folder in ("conf.d", "sites-enabled", "logs"):
            (etc / folder).mkdir(exist_ok=True)
        for site in (etc / "sites-available").glob("*.conf"):
            shutil.copy(site, etc / "sites-enabled")
        for file in [p for p in etc.rglob("*") if p.is_file()]:
            text = file.read_text()
            text = text.replace("/etc/nginx/mime.types", "@mime@").replace("/etc/nginx", str(etc))
            text = re.sub(
                r"(ssl_certificate(?:_key)?|ssl_trusted_certificate)\s+(\S+);",
                _certificate(key, certificate),
                text,
            )
            text = re.sub(r"^\s*user\s+.*?;", "", text, flags=re.M)
            text = re.sub(r"^(\s*pid)\s+.*?;", rf"\1 {etc}/nginx.pid;", text, flags=re.M)
            text = re.sub(r"((?:access|error)_log)\s+/[^;\s]+", rf"\1 {etc}/logs/log", text)
            # nginx makes these even to test, and only root may where they belong.
            places = "".join(f"{kind}_temp_path {etc}/logs/{kind};" for kind in NGINX_TEMPORARY)
            text = re.sub(r"^http\s*\{", rf"\g<0>{places}", text, flags=re.M)
            file.write_text(text.replace("@mime@", "/etc/nginx/mime.types"))
        result = subprocess.run(
            [
                program("nginx"),
                "-t",
                "-q",
                "-p",
                str(etc),
                "-c",
                str(etc / "nginx.conf"),
                "-e",
                str(etc / "logs/log"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0 and "[warn]" not in result.stderr, f"{main}:\n{result.stderr}"


def _certificate(key: Path, certificate: Path):  # type: ignore[no-untyped-def]  # a re.sub callback
    return lambda m: f"{m[1]} {key if m[1].endswith('_key') else certificate};"


def test_postgresql_accepts_its_settings(rendered: Rendered) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "postgres is not installed: run `make test` once as root, or install postgresql"
    files = rendered.files("postgresql/etc/postgresql/conf.d/*.conf")
    assert files
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses root
    for file in files:
        with tempfile.TemporaryDirectory() as name:
            data = Path(name)
            (data / "PG_VERSION").write_text(found[-1].parts[4] + "\n")
            (data / "postgresql.conf").write_text(file.read_text())
            if user:
                for path in (data, *data.iterdir()):
                    shutil.chown(path, user)
            result = subprocess.run(
                [str(found[-1]), "-D", name, "-C", "shared_buffers"],
                capture_output=True,
                text=True,
                check=False,
                user=user,
                cwd=name,
            )
        assert result.returncode == 0, f"{file}:\n{result.stderr}"
        buffers_8kb = int(result.stdout)
        assert 16 * 128 <= buffers_8kb <= 8 * 131072, f"{file}: shared_buffers of {buffers_8kb * 8} kB"


def test_json_and_yaml_parse(rendered: Rendered) -> None:
    for file in rendered.files("**/*.json"):
        json.loads(file.read_text())
    for file in [*rendered.files("**/*.yml"), *rendered.files("**/*.yaml")]:
        yaml.safe_load(file.read_text())


def test_no_rendered_file_but_secrets_holds_a_secret(rendered: Rendered) -> None:
    """Redis' ACL file holds hashes; the secret files are written by copy, not by template."""
    for file in rendered.files("**/*"):
        assert "for-this-test-only" not in file.read_text(), f"{file} holds a secret"

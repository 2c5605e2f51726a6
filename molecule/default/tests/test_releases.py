"""A broken release is refused, or taken back, by the playbook itself, and nobody who uses the site notices."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from people import Prober, Talk
from site_under_test import ROOT, Site

BROKEN = {
    "does-not-import": """
raise RuntimeError("broken on purpose: does not import")
""",
    "is-never-ready": """
_create_whole_app = create_app


def create_app(settings=None):
    app = _create_whole_app(settings)

    def never_ready():
        from flask import request
        return ("never ready, on purpose", 503) if request.path == "/ready" else None

    app.before_request_funcs.setdefault(None, []).insert(0, never_ready)
    return app
""",
    "dies-after-the-switch": """
import os as _os
import signal as _signal
import threading as _threading

if "candidate" not in _os.environ.get("BIND", ""):
    _threading.Timer(1.5, _os.kill, (_os.getppid(), _signal.SIGKILL)).start()
""",
}


def broken_source(kind: str, to: Path) -> Path:
    """Return a copy of the application with one deliberate fault."""
    shutil.copytree(
        ROOT / "app", to / "app", ignore=shutil.ignore_patterns("node_modules", "tests", "__pycache__", ".*_cache")
    )
    entry = to / "app/src/hockey_hub_chat/web/app.py"
    entry.write_text(entry.read_text(encoding="utf-8") + BROKEN[kind], encoding="utf-8")
    return to / "app"


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_release_is_taken_back(
    site: Site, probe: dict[str, Any], rng: random.Random, figure: Callable[[str], None], tmp_path: Path, kind: str
) -> None:
    good = site.release()
    main_pid = site.main_pid("hockey-hub-chat.service")
    source = broken_source(kind, tmp_path)
    with Prober(site) as prober, Talk(site, probe, rng, each_per_second=5) as talk:
        played = site.play(
            "playbooks/chat_app.yml",
            "-e",
            f"chat_app_source_directory={source}",
            "-e",
            "chat_app_ready_timeout_seconds=20",
        )
        talk.judge(talk.finish())
    figure(f"{kind}: {prober.asked} requests, {len(prober.failures)} failed, the slowest took {prober.slowest:.2f} s")
    assert played.status != 0, "the playbook should have failed"
    verdict = "was rolled back" if kind == "dies-after-the-switch" else "was refused"
    assert verdict in played.output and good in played.output, played.output[-4000:]
    assert site.release() == good
    assert prober.failures == []
    assert site.ask("GET", "/ready").status == 200
    if kind != "dies-after-the-switch":
        assert site.main_pid("hockey-hub-chat.service") == main_pid, "a refused release must not touch the running one"
    assert site.root("systemctl is-active hockey-hub-chat-candidate.service", check=False) in ("inactive", "failed")
    assert site.root("find /opt/hockey-hub/releases -name '*.partial'") == ""


def test_the_next_run_heals_and_then_changes_nothing(site: Site) -> None:
    healed = site.play("playbooks/chat_app.yml")
    assert healed.status == 0, healed.output[-4000:]
    again = site.play("playbooks/chat_app.yml")
    assert "changed=0 " in again.output, again.output[-4000:]


def test_new_settings_pass_the_same_gate_unnoticed(
    site: Site, probe: dict[str, Any], rng: random.Random, figure: Callable[[str], None]
) -> None:
    good = site.release()
    with Prober(site) as prober, Talk(site, probe, rng, each_per_second=5) as talk:
        played = site.play("playbooks/chat_app.yml", "-e", "chat_app_log_level=debug")
        back = site.play("playbooks/chat_app.yml")
        talk.judge(talk.finish())
    assert played.status == back.status == 0, played.output[-3000:] + back.output[-3000:]
    assert "changed=0 " not in played.output
    assert prober.failures == []
    figure(
        f"two restarts: {prober.asked} requests, {len(prober.failures)} failed, the slowest took {prober.slowest:.2f} s"
    )
    assert site.release() == good


def test_going_back_on_purpose(site: Site, tmp_path: Path) -> None:
    good = site.release()
    source = broken_source("does-not-import", tmp_path)
    entry = source / "src/hockey_hub_chat/web/app.py"
    entry.write_text(
        entry.read_text(encoding="utf-8").replace(BROKEN["does-not-import"], "\n# another release\n"), encoding="utf-8"
    )
    assert site.play("playbooks/chat_app.yml", "-e", f"chat_app_source_directory={source}").status == 0
    newer = site.release()
    assert newer != good
    dry = site.play("playbooks/rollback.yml", "--check")
    assert dry.status == 0 and f"from {newer} to {good}" in " ".join(dry.output.split()), dry.output[-3000:]
    assert site.release() == newer
    assert site.play("playbooks/rollback.yml").status == 0
    assert site.release() == good
    absent = site.play("playbooks/rollback.yml", "-e", "chat_app_release=0.0.0-none")
    assert absent.status != 0 and "has no release 0.0.0-none" in absent.output
    assert site.play("playbooks/chat_app.yml").status == 0
    assert site.release() == good

"""A short piece of ``make faults``: every kind of fault once, in a random order, under load; and that it would see a harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaign.faults import run
from campaign.kinds import KINDS, Scene
from harness.talk import new_seed


def test_every_kind_of_fault_once_under_load(tmp_path: Path) -> None:
    outcome = run(new_seed(), len(KINDS), tmp_path)
    print(outcome)
    assert outcome.clean, str(outcome)
    assert outcome.counts.keys() == KINDS.keys()
    assert outcome.totals.acked and outcome.totals.received, "nothing was said"


def test_a_message_nobody_sent_ends_a_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forge(scene: Scene) -> str:
        load = scene.load
        load.people.fill(load.club, load.persons[0], 1)
        return "one message"

    monkeypatch.setitem(KINDS, "forge", forge)
    outcome = run(new_seed(), 3, tmp_path, kinds=["forge"], check_every=1)
    assert not outcome.clean and outcome.done == 0
    assert "nobody sent it" in str(outcome)
    assert "nobody sent it" in (tmp_path / "verdict.txt").read_text()
    assert "the end of" in str(outcome), "the servers' logs are missing"
    assert '"kind": "forge"' in (tmp_path / "events.jsonl").read_text()

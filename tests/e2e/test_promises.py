"""Promised names exist, and the changelog begins with the running version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.promises import PROMISES_PATH, collect_promises
from foundation import VERSION
from kelly_chronos import main

CHANGELOG = Path(__file__).resolve().parents[2] / "CHANGELOG.md"


def test_every_public_name_in_promises_file_exists() -> None:
    now = collect_promises()
    promised = yaml.safe_load(PROMISES_PATH.read_text())
    lost = [
        f"{kind}: {place}: {name}"
        for kind, places in promised.items()
        for place, names in places.items()
        for name in names
        if name not in now[kind].get(place, ())
    ]
    assert promised.keys() == now.keys()
    assert lost == [], (
        "take it out of docs/promises.yaml and say in CHANGELOG.md what to use instead"
    )


def test_changelog_begins_with_the_running_version() -> None:
    text = CHANGELOG.read_text()
    version, date = re.findall(r"^## \[(.+?)\](.*)$", text, re.MULTILINE)[0]
    assert version == VERSION
    assert re.fullmatch(r" - (unreleased|\d{4}-\d\d-\d\d)", date)
    assert "### What is promised from 1.0.0 on" in text
    assert "### Gone, and what to use instead" in text


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_command_prints_its_version(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["kelly-chronos", flag])
    main()
    assert capsys.readouterr().out == f"kelly-chronos {VERSION}\n"

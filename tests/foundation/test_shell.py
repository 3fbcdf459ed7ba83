"""Commands in messages: they run as printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from foundation.shell import format_command


def test_command_has_the_interpreters_relative_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert format_command("pip install -e '.[search]'") == (".venv/bin/pip install -e '.[search]'")


def test_command_elsewhere_has_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "my venv" / "bin"
    place.mkdir(parents=True)
    program = place / "kelly-chronos"
    program.write_text("")
    program.chmod(0o755)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    monkeypatch.setenv("PATH", "")
    assert format_command("kelly-chronos init") == f"'{program}' init"
    monkeypatch.setenv("PATH", str(place))
    assert format_command("kelly-chronos init") == "kelly-chronos init"

"""Sessions from the user's cache equal the library's, and those of another key are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pytest

from trainingdata import sessions
from trainingdata.instants import new_york_offsets

made = sessions.exchange_calendar.__wrapped__  # without the cache of this process


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the sessions to an empty cache, and return their file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made()
    return tmp_path / "kelly-chronos" / "sessions"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each call of the library."""
    listed = exchange_calendars.get_calendar
    calls: list[str] = []

    def ask(*words: Any, **more: Any) -> Any:
        calls.append("library")
        return listed(*words, **more)

    monkeypatch.setattr(exchange_calendars, "get_calendar", ask)
    return calls


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> sessions.ExchangeCalendar:
    """Sessions that no cache has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("empty")))
        return made()


def assert_equal(found: sessions.ExchangeCalendar, expected: sessions.ExchangeCalendar) -> None:
    for name in ("opens", "closes", "dates"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_cached_sessions_equal_those_of_the_calendar_library(
    kept: Path, asked: list[str], library: sessions.ExchangeCalendar
) -> None:
    assert_equal(made(), library)
    assert not asked


@pytest.mark.parametrize("changed", ["date", "library", "clock", "code"])
def test_cached_sessions_of_another_key_are_never_used(
    changed: str, kept: Path, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if changed == "date":
        monkeypatch.setattr("time.strftime", lambda _: "2020-02-29")
    elif changed == "library":
        monkeypatch.setattr(sessions, "version", lambda name: f"{name} of tomorrow")
    elif changed == "clock":
        changes, offsets = new_york_offsets()
        monkeypatch.setattr(sessions, "new_york_offsets", lambda: (changes[:-1], offsets[:-1]))
    else:
        other = tmp_path / "sessions.py"
        other.write_text("FULL_SESSION = 391\n")
        monkeypatch.setattr(sessions, "__file__", str(other))
    made()
    assert asked == ["library"]
    made()
    assert asked == ["library"], "sessions are cached under the new key"


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_damaged_session_cache_is_rebuilt(
    place: int, kept: Path, asked: list[str], library: sessions.ExchangeCalendar
) -> None:
    content = bytearray(kept.read_bytes())
    content[place] ^= 1
    kept.write_bytes(content)
    assert_equal(made(), library)
    assert asked == ["library"]
    kept.write_bytes(kept.read_bytes()[:-8])
    assert_equal(made(), library)
    assert asked == ["library"] * 2


def test_unwritable_session_cache_recomputes_sessions_each_time(
    tmp_path: Path,
    asked: list[str],
    library: sessions.ExchangeCalendar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    for _ in range(2):
        assert_equal(made(), library)
    assert asked == ["library"] * 2

"""Two runs on one output, and a run that is killed while it puts its files in place."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from foundation.errors import InputError
from foundation.files import (
    check_file_digests,
    check_output_folder,
    unlock_output_folders,
    write_files_atomically,
)
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused
from tests.support.short_backtest import BACKTEST, RUN

READERS = (
    ("marketsimulator.compare", "one", "other"),
    ("marketsimulator.explain", "one", "--symbol", "SYA"),
    ("marketsimulator.stress", "one", "output=stressed"),
)
Writers = Mapping[str, Callable[[Path], object]]


def locked(folder: Path) -> int:
    """A folder that is held as another process holds it."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def test_second_concurrent_run_on_same_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def held(writers: Writers, output: Path, name: str = "output") -> None:
        with pytest.raises(BlockingIOError):
            locked(output)
        written.append(output)
        write_files_atomically(writers, output, name)

    monkeypatch.setattr("foundation.cli.write_files_atomically", held)
    code, _, said = answer_of(BACKTEST, *RUN, "output=out", cwd=tmp_path)
    assert (code, len(written)) == (0, 1), said
    unlock_output_folders()
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(BacktestSettings, "load_market", None)
    for folder in ("out", "other"):
        other = locked(tmp_path / folder)
        check_message(refusal_of(BACKTEST, *RUN, f"output={folder}", cwd=tmp_path), folder)
        os.close(other)
    assert list((tmp_path / "other").iterdir()) == []


class Killed(BaseException):
    """The process ends here."""


def dying(after: int) -> Callable[[Path, Path], Path]:
    """A `Path.replace` in which the process ends after so many."""
    calls, replace = itertools.count(), Path.replace

    def counted(path: Path, target: Path) -> Path:
        if next(calls) == after:
            raise Killed
        return replace(path, target)

    return counted


def test_results_folder_left_incomplete_is_refused_until_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = Path("one"), Path("other")
    names = ("a.csv", "b.csv", "c.csv", "summary.json")

    def written(folder: Path, content: str = "{}") -> None:
        write_files_atomically(
            {name: lambda path: path.write_text(content) for name in names}, folder
        )

    written(one)
    written(other)
    for named in range(len(names)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying(named))
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(Killed):
                written(one, "{ }")
        with refused(InputError):
            check_file_digests(one, "runs")
        check_output_folder(one, "summary.json")
    for reader in READERS:
        check_message(refusal_of(*reader))
    written(one)
    check_file_digests(one, "runs")
    assert sorted(path.name for path in one.iterdir()) == sorted(names), "nothing is left"

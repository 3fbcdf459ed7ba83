"""Files are put in place whole, and what killed processes have left of them goes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from foundation.errors import InputError
from foundation.files import (
    add_summary_writer,
    atomic_file,
    check_file_digests,
    check_output_file,
    check_output_folder,
    remove_stale_temporary_files,
    resolve_output,
    unlock_output_folders,
    write_atomically,
    write_files_atomically,
)
from tests.support.commands import run_command
from tests.support.messages import refused

KEYS = ("total_return", "comparisons")
COLUMNS = ("timestamp", "open", "close")
RUN = '{"total_return": 0.1, "comparisons": {}}'  # what a backtest's summary has whatever was run


@pytest.mark.wire
def test_only_temporary_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "b.parquet"
    script = (
        "import os, pathlib, signal\n"
        "from foundation.files import atomic_file\n"
        f"with atomic_file(pathlib.Path({str(path)!r})) as part:\n"
        "    part.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(script)
    assert run_command([str(program)], cwd=Path.cwd()).returncode < 0
    [left] = tmp_path.glob(".*")
    others = [
        tmp_path / f".b.parquet.{platform.node()}.{os.getppid()}.part",
        tmp_path / ".b.parquet.elsewhere.1.part",
        tmp_path / f".c.parquet.{platform.node()}.999999999.part",
    ]
    for other in others:
        other.touch()
    with atomic_file(path) as part:
        part.write_bytes(b"whole")
        remove_stale_temporary_files(path)
    assert not left.exists()
    assert all(other.exists() for other in others)
    assert path.read_bytes() == b"whole"


def test_failed_write_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"first")
    try:
        with atomic_file(path) as part:
            part.write_bytes(b"second")
            raise KeyError("midway")
    except KeyError:
        pass
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_output_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new" / "below", "summary.json")
    assert (tmp_path / "new" / "below").is_dir(), "it is held"
    unlock_output_folders()
    assert list(tmp_path.iterdir()) == [], "nothing was written to it"
    check_output_folder(tmp_path, "summary.json", KEYS)
    (tmp_path / ".left").touch()
    check_output_folder(tmp_path, "summary.json", KEYS)
    (tmp_path / "notes.txt").touch()
    with refused(InputError, "notes.txt", "overwrite=true"):
        check_output_folder(tmp_path, "summary.json", KEYS)
    check_output_folder(tmp_path, "summary.json", KEYS, overwrite=True)
    check_output_folder(tmp_path)
    (tmp_path / "summary.json").write_text(RUN)
    check_output_folder(tmp_path, "summary.json", KEYS)
    with refused(InputError):
        check_output_folder(tmp_path, "sweep.parquet")


@pytest.mark.parametrize(
    "content", ["", "mine", "[1]", '{"total_return": 1}', '{"total": 3, "comparisons": []}']
)
def test_foreign_file_with_output_name_is_not_overwritten(tmp_path: Path, content: str) -> None:
    for name, keys in (("summary.json", KEYS), ("*.parquet", COLUMNS)):
        path = tmp_path / name.replace("*", "NVDA")
        path.write_text(content)
        with refused(InputError, path.name):
            check_output_folder(tmp_path, name, keys)
        check_output_folder(tmp_path, name, keys, overwrite=True)
        assert path.read_text() == content
        path.unlink()


def test_earlier_parquet_output_is_recognised_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "NVDA.parquet"
    pd.DataFrame({"timestamp": [0], "open": [0.1], "close": [1.0]}).to_parquet(path)
    check_output_folder(tmp_path, "*.parquet", COLUMNS)
    pd.DataFrame({"width": [0.1]}).to_parquet(path)
    with refused(InputError):
        check_output_folder(tmp_path, "*.parquet", COLUMNS)


def test_parent_folder_is_created_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f.csv"
    check_output_file(path, "output")
    assert not path.parent.exists()
    write_atomically(path, b"1")
    assert path.read_bytes() == b"1"
    with refused(InputError, "f.csv"):
        check_output_file(path / "g.csv", "output")
    check_output_file(path, "output", lambda _: True)
    check_output_file(path, "output", lambda _: False, overwrite=True)
    with refused(InputError, "output", "overwrite=true"):
        check_output_file(path, "output", lambda _: False)


@pytest.mark.parametrize("written", ["bars", "./bars", "bars/../bars"])
def test_results_are_never_written_among_input_bars(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bars").mkdir()
    monkeypatch.chdir(tmp_path)
    words = {"output": written, "overwrite": True, "data": {"dir": ["bars"]}}
    with refused(InputError, "data.dir"):
        resolve_output(OmegaConf.create(words), "summary.json")
    words["output"] = "bars/run"
    assert resolve_output(OmegaConf.create(words), "summary.json") == Path("bars/run")


def test_overwriting_a_run_replaces_all_or_nothing(tmp_path: Path) -> None:
    first = ("equity", "drift", "unsolved", "edited")
    written = dict.fromkeys(first, lambda path: path.write_text("old"))
    write_files_atomically(add_summary_writer(written, "summary.json", {}), tmp_path)
    (tmp_path / "edited").write_text("somebody's")
    (tmp_path / "notes").write_text("somebody's")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*first, "notes", "summary.json"}
    new = {"equity": lambda path: path.write_text("new")}
    write_files_atomically(add_summary_writer(new, "summary.json", {}), tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"equity", "summary.json", "edited", "notes"}
    check_file_digests(tmp_path, "RUN")

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with refused(InputError):
        write_files_atomically(add_summary_writer({"drift": fail}, "summary.json", {}), tmp_path)
    assert (tmp_path / "equity").read_text() == "new"
    check_file_digests(tmp_path, "RUN")

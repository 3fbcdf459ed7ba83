"""Two runs on one output, and a run that is killed while it puts its files in place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundation.files import UNFINISHED
from tests.commands import Started, run_command

RUN = (
    *("-m", "marketsimulator.backtest", "symbols=[SYA,SYB]", "start=2024-02-20"),
    *("end=2024-02-21", "forecaster=ewma", "forecaster.calibrated=false", "trials=null"),
)
READERS = (
    ("-m", "marketsimulator.compare", "one", "other"),
    ("-m", "execution.explain", "one", "--symbol", "SYA"),
    ("-m", "marketsimulator.stress", "one", "output=stressed"),
)
# A backtest that stops before its first file is written until somebody opens the pipe.
WAITS = """
import pathlib, sys
from foundation import command
write_whole = command.write_whole
def late(writers, output, name="output"):
    print("about to write", flush=True)
    pathlib.Path("go").read_text()
    write_whole(writers, output, name)
command.write_whole = late
from foundation.command import start
start("marketsimulator.backtest")
"""
# A backtest that is killed once so many of its files have their names.
KILLED = """
import os, pathlib, signal, sys
left = int(sys.argv.pop(1))
replace = pathlib.Path.replace
def counted(path, target):
    global left
    if pathlib.Path(target).parent.name == "one":
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return replace(path, target)
pathlib.Path.replace = counted
from foundation.command import start
start("marketsimulator.backtest")
"""


def digest(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(words: tuple[str, ...], cwd: Path) -> str:
    done = run_command(words, cwd=cwd)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_the_second_run_on_one_output_is_refused_before_it_works(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    os.mkfifo(tmp_path / "go")
    first = Started([str(tmp_path / "waits.py"), *RUN[2:], "output=out"], cwd=tmp_path)
    try:
        first.wait_for_output(120.0)
        while "about to write" not in first.output:
            assert first.running, first.errors
            os.sched_yield()
        assert "out is written by another run" in refusal((*RUN, "output=out"), tmp_path)
        assert list((tmp_path / "out").iterdir()) == []
        other = run_command((*RUN, "output=other"), cwd=tmp_path)
        assert other.returncode == 0, other.stderr
        (tmp_path / "go").write_text("")
        assert first.wait().returncode == 0
    finally:
        first.kill()
    assert "summary.json" in digest(tmp_path / "out")
    again = run_command((*RUN, "output=out"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_folder_in_which_a_run_was_killed_is_refused_by_who_reads_it_and_made_whole_again(
    tmp_path: Path,
) -> None:
    for name in ("one", "other"):
        done = run_command((*RUN, f"output={name}"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    files = len(digest(tmp_path / "one"))
    (tmp_path / "killed.py").write_text(KILLED)
    for named in (0, 1, files // 2, files - 1):
        words = (str(tmp_path / "killed.py"), str(named), *RUN[2:], "capital=5000", "output=one")
        assert run_command(words, cwd=tmp_path).returncode < 0
        assert (tmp_path / "one" / UNFINISHED).exists()
        for reader in READERS if named == 1 else READERS[:1]:
            assert "one is unfinished: a run puts its files in place" in refusal(
                reader, tmp_path
            ), reader
    done = run_command((*RUN, "output=one"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(digest(tmp_path / "one")) == files, "nothing of those that were killed is left"
    assert run_command(READERS[1], cwd=tmp_path).returncode == 0

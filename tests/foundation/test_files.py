"""Files are put in place whole, and what killed processes have left of them goes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from foundation.files import put_whole, remove_unfinished, staged_file
from tests.commands import run_command


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "b.parquet"
    script = (
        "import os, pathlib, signal\n"
        "from foundation.files import staged_file\n"
        f"with staged_file(pathlib.Path({str(path)!r})) as part:\n"
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
    with staged_file(path) as part:
        part.write_bytes(b"whole")
        remove_unfinished(path)
    assert not left.exists()
    assert all(other.exists() for other in others)
    assert path.read_bytes() == b"whole"


def test_a_file_is_as_it_was_where_writing_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    put_whole(path, b"first")
    try:
        with staged_file(path) as part:
            part.write_bytes(b"second")
            raise KeyError("midway")
    except KeyError:
        pass
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]

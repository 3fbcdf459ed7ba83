"""Commands as a user starts them, each in a process of its own, without waiting for its libraries.

A server that has the libraries and the project's rooms loaded forks for every command. The child
has its own working folder, environment and output, and runs the command's own file.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.support.preloaded"])


def preload(module: str) -> None:
    """Have the server load a module as well, where it has not been started yet."""
    _SERVER.set_forkserver_preload(["tests.support.preloaded", module])


class Started:
    """A command that has been started: `-m MODULE …` or `SCRIPT …`.

    cwd, env: as those of `subprocess.Popen`.
    """

    def __init__(
        self, words: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.words = list(words)
        self._scratch = tempfile.TemporaryDirectory()
        self._out = Path(self._scratch.name) / "out"
        self._err = Path(self._scratch.name) / "err"
        folder = Path.cwd() if cwd is None else cwd
        environment = dict(os.environ if env is None else env)
        self._child = _SERVER.Process(
            target=_run, args=(self.words, folder, environment, self._out, self._err)
        )
        self._child.start()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._child.pid is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.is_alive()

    def wait_for_end(self, seconds: float) -> None:
        """Until it has ended, or so many seconds have passed."""
        self._child.join(seconds)

    @property
    def printed(self) -> int:
        """Bytes that it has printed so far."""
        return sum(path.stat().st_size for path in (self._out, self._err) if path.exists())

    @property
    def output(self) -> str:
        """What it has printed so far, errors left out."""
        return self._out.read_text(errors="replace") if self._out.exists() else ""

    @property
    def errors(self) -> str:
        """What it has printed of errors so far."""
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    def wait_for_output(self, seconds: float = 60.0, text: str = "") -> None:
        """Wait until the command has printed something, or a text, or has ended.

        Raises
        ------
        TimeoutError
            where neither has happened after so many seconds.
        """
        deadline = time.monotonic() + seconds
        while self.running and not self._has_printed(text):
            if time.monotonic() > deadline:
                missing = repr(text) if text else "anything"
                raise TimeoutError(
                    f"{' '.join(self.words)}: {missing} not printed in {seconds:g} s"
                )
            time.sleep(0.001)

    def _has_printed(self, text: str) -> bool:
        if not self._out.exists() or not self._out.stat().st_size:
            return False
        return not text or text in self._out.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self._child.kill()
        self._child.join()
        self._scratch.cleanup()

    def wait(self, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """What it has printed once it has ended.

        Raises
        ------
        TimeoutError
            where it has not ended after so many seconds; it is killed.
        """
        self._child.join(seconds)
        code = self._child.exitcode
        if code is None:
            self.kill()
            raise TimeoutError(f"{' '.join(self.words)}: not ended after {seconds:g} s")
        out, err = (p.read_text() if p.exists() else "" for p in (self._out, self._err))
        self._scratch.cleanup()
        return subprocess.CompletedProcess(self.words, code, out, err)


def run_command(
    words: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command prints and how it ends."""
    return Started(words, cwd=cwd, env=env).wait()


def overridden(usual: Sequence[str], words: Sequence[str]) -> list[str]:
    """The usual words key=value without those that others give a value, then the others.

    A command line refuses a key that is given twice.
    """
    given = {word.partition("=")[0] for word in words if "=" in word}
    return [*(word for word in usual if word.partition("=")[0] not in given), *words]


def _run(words: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """The life of a command, in the child."""
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # Python puts the working folder in front for a module, the script's folder for a script.
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, str(folder))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")

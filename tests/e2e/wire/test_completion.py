"""Shell completion of commands, settings and values; bash, zsh and fish run their scripts."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.completion import COMPLETION_SCRIPTS, completion_script, list_candidates
from foundation.plugin import merge_product_tables
from kelly_chronos import main
from tests.support.messages import check_message

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = {name: each for name, each in merge_product_tables("COMMANDS").items() if each.is_listed}
# Readline also divides words at `=`.
ASK = r"""
source "$SCRIPT"
complete -p kelly-chronos
COMP_LINE="$LINE"; COMP_POINT=${#LINE}; COMP_CWORD=0
_kelly_chronos 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"""

# zsh completes the line as soon as its editor starts, as if Tab were pressed.
ZSHRC = r"""
autoload -Uz compinit && compinit -u -D
source "$SCRIPT"
complete_line() {
    BUFFER="$LINE" CURSOR=${#LINE}
    zle complete-word
    print -rn -- "$BUFFER" > "$ANSWER"
    exit
}
zle -N zle-line-init complete_line
"""

CASES = [
    (["ba"], {"batch", "backtest"}),
    (["mon"], {"monte-carlo"}),
    (["--c"], {"--completion"}),
    (["--completion", ""], {"bash", "zsh", "fish"}),
    (["backtest", "sizing.st"], {"sizing.strategy="}),
    (["backtest", "siz"], {"sizing."}),
    (["backtest", "forecaster"], {"forecaster.", "forecaster="}),
    (
        ["backtest", "timeframe="],
        {f"timeframe={each}" for each in ("1d", "1h", "30m", "15m", "5m")},
    ),
    (["backtest", "sizing.strategy=premium"], {"sizing.strategy=premium_50"}),
    (["backtest", "forecaster=e"], {"forecaster=ewma"}),
    (["backtest", "start=2024-01-02", "overwrite=t"], {"overwrite=true"}),
    (["trade-stock-e2e", "pre"], {"preview"}),
    (["trade_stock_e2e", "mode=p"], {"mode=preview", "mode=paper"}),
    (["live", "st"], {"status", "start="}),
    (["list", "f"], {"forecasters", "fees"}),
    (["explain", "--s"], {"--symbol"}),
    (["doctor", "--j"], {"--json"}),
    (["nothing", "s"], set()),
    (["backtest", "data.dir="], set()),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=lambda each: " ".join(sorted(each))[:40])
def test_completion_suggests_commands_setting_keys_and_values(
    words: list[str], expected: set[str]
) -> None:
    assert set(list_candidates(words, COMMANDS)) == expected


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("path")
    program = folder / "kelly-chronos"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "kelly_chronos.py"}" "$@"\n')
    program.chmod(0o755)
    for shell in COMPLETION_SCRIPTS:
        (folder / f"script.{shell}").write_text(completion_script(shell))
    (folder / ".zshrc").write_text(ZSHRC)
    (folder / "bars-of-mine").mkdir()
    return program


def environment(program: Path, shell: str, line: str) -> dict[str, str]:
    """The environment in which a shell completes a line."""
    own = {"HOME": str(program.parent), "TERM": "xterm", "LINE": line}
    own["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    own["SCRIPT"] = str(program.with_name(f"script.{shell}"))
    return {**os.environ, **own}


def installed(shell: str) -> str:
    """The path of a shell; skip the test if it is not installed."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kelly-chronos ba", ["batch", "backtest"]),
        ("kelly-chronos backtest sizing.st", ["sizing.strategy="]),
        ("kelly-chronos backtest sizing.strategy=kelly_1", ["kelly_10", "kelly_100"]),
        ("kelly-chronos backtest config=", [""]),
    ],
)
def test_bash_completion_handles_readline_word_breaks(
    line: str, expected: list[str], program: Path
) -> None:
    done = subprocess.run(
        [installed("bash"), "--norc", "-i", "-c", ASK],
        env=environment(program, "bash", line),
        capture_output=True,
        text=True,
    )
    registered, *replies = done.stdout.splitlines()
    assert registered == "complete -o default -F _kelly_chronos kelly-chronos"
    assert replies == expected


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("kelly-chronos mon", "kelly-chronos monte-carlo "),
        ("kelly-chronos --comp", "kelly-chronos --completion "),
        ("kelly-chronos backtest sizing.st", "kelly-chronos backtest sizing.strategy="),
        (
            "kelly-chronos backtest 'symbols=[SYA]' overwrite=t",
            "kelly-chronos backtest 'symbols=[SYA]' overwrite=true ",
        ),
        ("kelly-chronos backtest data.dir=bars-", "kelly-chronos backtest data.dir=bars-of-mine/"),
    ],
)
def test_zsh_completes_commands_keys_values_and_folders(
    line: str, completed: str, program: Path, tmp_path: Path
) -> None:
    zsh = installed("zsh")
    answer = tmp_path / "answer"
    terminal, side = pty.openpty()
    try:
        subprocess.run(
            [zsh, "-d", "-i"],
            env={
                **environment(program, "zsh", line),
                "ZDOTDIR": str(program.parent),
                "ANSWER": str(answer),
            },
            cwd=program.parent,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(side)
        os.close(terminal)
    assert answer.read_text() == completed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kelly-chronos mon", ["monte-carlo"]),
        ("kelly-chronos backtest sizing.st", ["sizing.strategy="]),
        (
            "kelly-chronos backtest sizing.strategy=kelly_1",
            ["sizing.strategy=kelly_10", "sizing.strategy=kelly_100"],
        ),
        ("kelly-chronos backtest data.dir=bars-", ["data.dir=bars-of-mine/"]),
    ],
)
def test_fish_completes_commands_keys_values_and_folders(
    line: str, expected: list[str], program: Path
) -> None:
    done = subprocess.run(
        [installed("fish"), "--no-config", "-c", 'source "$SCRIPT"; complete -C "$LINE"'],
        env=environment(program, "fish", line),
        cwd=program.parent,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("shell", COMPLETION_SCRIPTS)
def test_completion_script_has_valid_shell_syntax(shell: str) -> None:
    found = installed(shell)
    done = subprocess.run([found, "-n"], input=completion_script(shell), text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("words", [["ksh"], []])
def test_unknown_shell_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kelly-chronos", "--completion", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    check_message(capsys.readouterr().err.rstrip(), "--completion", "bash, zsh, fish")

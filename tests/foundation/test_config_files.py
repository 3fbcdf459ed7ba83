"""A YAML file of a user's own that cannot be used: one line with file, line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import InputError
from foundation.settings import check_config_file
from tests.e2e.refused import refusal_of
from tests.marketsimulator.run_folder_files import write_run
from tests.support.messages import check_message, refused

# Ten lines that stand for 10^9 words once they are expanded.
BOMB = "a0: &a0 [" + ", ".join(["x"] * 10) + "]\n"
BOMB += "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))

BAD = [
    (BOMB.encode(), ("line 2", "YAML", "*a0")),
    (b"commission_bps: 5\n  sec: 3\n", ("line 2", "YAML")),
    (b"a: 1\na: 2\n", ("line 2", "YAML", "key a")),
    (b"a: 1\nb: \xff\n", ("'utf-8'", "0xff")),
    (b"# later\n", ("fees", "configs/fees")),
    (b"- a\n", ("configs/fees",)),
]


@pytest.mark.parametrize(("content", "facts"), BAD)
def test_invalid_settings_file_is_refused_with_its_line(
    content: bytes, facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with refused(InputError, "own.yaml", *facts):
        check_config_file(path, "fees")


@pytest.mark.parametrize("place", ["fees/own.yaml", "forecaster/own.yaml", "own.yaml"])
def test_every_file_in_custom_config_folder_is_checked(place: str, tmp_path: Path) -> None:
    path = tmp_path / "cfg" / place
    path.parent.mkdir(parents=True)
    path.write_text("a: 1\n  b: 2\n")
    group = place.rpartition("/")[0]
    chosen = [f"{group}=own"] if group else ["--config-name", "own"]
    check_message(
        refusal_of("marketsimulator.backtest", "--config-dir", "cfg", *chosen, cwd=tmp_path),
        f"cfg/{place}",
        "line 2",
        "YAML",
    )
    assert [each.name for each in tmp_path.iterdir()] == ["cfg"]


def test_endlessly_expanding_run_settings_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / name)
        (tmp_path / name / "config.yaml").write_text(BOMB)
    check_message(
        refusal_of("marketsimulator.compare", "one", "two", cwd=tmp_path), "one/config.yaml", "*a0"
    )

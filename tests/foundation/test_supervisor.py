"""What a supervisor hears on a real socket, and that silence on its side ends nothing."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foundation.errors import InputError
from foundation.notifier import SEND_TIMEOUT_SECONDS, Supervisor
from tests.support.messages import refused


def listener(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(f"\0{address[1:]}" if address.startswith("@") else address)
    channel.settimeout(5)
    return channel


def test_supervisor_message_has_one_field_per_line(tmp_path: Path) -> None:
    for address in (str(tmp_path / "s"), f"@kelly-chronos-{os.getpid()}"):
        supervisor = Supervisor.from_environment({"NOTIFY_SOCKET": address})
        with closing(listener(address)) as heard:
            supervisor.notify(READY=1, STATUS="waits for 15:30")
            assert heard.recv(4096) == b"READY=1\nSTATUS=waits for 15:30"
            supervisor.notify(WATCHDOG=1)
            assert heard.recv(4096) == b"WATCHDOG=1"


@given(status=st.text())
@example("a file's name that is not a text: \udcff")
def test_status_text_cannot_inject_supervisor_fields(status: str) -> None:
    address = f"@kelly-chronos-status-{os.getpid()}"
    with closing(listener(address)) as channel:
        Supervisor(address).notify(STATUS=status, READY=1)
        lines = channel.recv(65536).decode().split("\n")
    assert len(lines) == 2
    assert lines[0].startswith("STATUS=")
    assert lines[1] == "READY=1"


def test_missing_supervisor_socket_logs_once_without_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Supervisor(str(tmp_path / "gone")).notify(WATCHDOG=1)
    (line,) = caplog.messages
    assert line.startswith("NOTIFY_SOCKET: ")
    assert line.endswith(": No such file or directory")
    monkeypatch.setattr(socket, "socket", None)
    Supervisor.from_environment({}).notify(READY=1)
    Supervisor.from_environment({"NOTIFY_SOCKET": ""}).notify(READY=1)
    assert len(caplog.records) == 1


def test_unresponsive_supervisor_does_not_block_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("foundation.notifier.SEND_TIMEOUT_SECONDS", 0.05)
    assert SEND_TIMEOUT_SECONDS <= 5, "within one look of the loop"
    address = str(tmp_path / "s")
    supervisor = Supervisor(address)
    with closing(listener(address)):
        for _ in range(10_000):
            supervisor.notify(WATCHDOG=1)
            if caplog.records:
                break
    assert "NOTIFY_SOCKET: message not delivered" in caplog.text


@given(microseconds=st.integers(1, 10**12))
def test_watchdog_signals_come_twice_per_interval(microseconds: int) -> None:
    asked = {"WATCHDOG_USEC": str(microseconds)}
    mine = {**asked, "WATCHDOG_PID": str(os.getpid())}
    assert (
        Supervisor.from_environment(asked)
        == Supervisor.from_environment(mine)
        == Supervisor("", microseconds / 1e6 / 2)
    )
    assert (
        Supervisor.from_environment(
            {**asked, "WATCHDOG_PID": str(os.getpid() + 1)}
        ).watchdog_seconds
        is None
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, ("0", "1.5", " 1", "1e6", "²")) for name in ("WATCHDOG_USEC", "WATCHDOG_PID")),
        ("NOTIFY_SOCKET", ("run/notify", "vsock:2:1234", " /run/notify")),
    ],
)
def test_invalid_supervisor_variable_is_named_in_the_error(
    name: str, values: tuple[str, ...]
) -> None:
    for value in values:
        with refused(InputError, name):
            Supervisor.from_environment({"WATCHDOG_USEC": "1", name: value})

"""Commands as a person gives them to a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from execution.live.commands import CommandDesk, read_answer, write_command
from foundation.clock import utc_now
from tests.support.desks import Desk


def command_desk(desk: Desk, jobs: Any = None) -> CommandDesk:
    """The taker of commands that the loop of a desk would have."""
    account = desk.live.account
    return CommandDesk(
        account.kill_file.parent,
        account.database,
        account.events,
        account.halts,
        [desk.job] if jobs is None else jobs,
        account,
        reporter=account,
        stop=desk.stop,
    )


def written(desk: Desk, name: str, verb: str, argument: str = "", **more: str) -> Path:
    """Write a command for an account, and return its file."""
    values = {"verb": verb, "argument": argument, "by": "Ada", "written_at": str(utc_now())}
    return write_command(desk.live.account.kill_file.parent, name, values | more)


def give(desk: Desk, verb: str, argument: str = "", name: str = "", **more: str) -> dict[str, str]:
    """Write a command, have it taken, and return the answer."""
    folder = desk.live.account.kill_file.parent
    name = name or f"c-{verb}-{len(list((folder / 'commands').glob('*')))}"
    path = written(desk, name, verb, argument, **more)
    assert path.stat().st_mode & 0o777 == 0o600
    command_desk(desk).take()
    answer = read_answer(folder, name)
    assert answer is not None
    assert not path.exists()
    return answer

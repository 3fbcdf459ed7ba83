"""A seller whose files know nothing of what is open in its account does not begin."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from execution.journal.events import HELD, EventLog
from execution.live.accounts import SPREADS
from foundation.database import Database
from foundation.errors import InputError
from option_spreads.selling.job import FOLDER, refuse_another_folder
from option_spreads.selling.state import SellerState, write_state


def test_files_that_know_nothing_of_an_open_spread_are_refused_by_the_name_of_those_that_do(
    tmp_path: Path,
) -> None:
    """A file without it was changed by a person; none at all says nothing."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with closing(Database(tmp_path / "journal.sqlite")) as database:
        events = EventLog(database)
        refuse_another_folder(other, events)
        events.append(HELD, SPREADS, ["PUT-20240220-030: 2 PUT 95/90 sold at 1.2"])
        for folder in (one, other):
            with pytest.raises(InputError, match="they are of another folder"):
                refuse_another_folder(folder, events)
            write_state(folder, SellerState())
            refuse_another_folder(folder, events)
        events.append(HELD, FOLDER, [str(one)])
        refuse_another_folder(one, events)
        with pytest.raises(InputError, match=rf"PUT-20240220-030.*they are of {one}: name that"):
            refuse_another_folder(other, events)
        events.append(HELD, SPREADS, [])
        refuse_another_folder(other, events)

"""Paper runs of the live command on a practice server, in this process."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.e2e.practice import Practice, environment
from tests.e2e.refused import answer_of
from tests.support.commands import overridden


def paper_words(here: Practice) -> list[str]:
    """What a paper run on a market of two stocks is told."""
    return [
        *("mode=paper", "symbols=[SYA,SYB]", f"broker.url_override={here.url}"),
        *("forecaster=ewma", "forecaster.calibrated=false"),
        *("sizing.strategy=equal_weight", "bar_wait_seconds=0"),
    ]


def paper(here: Practice, folder: Path, *words: str) -> CompletedProcess[str]:
    """A paper run of one cycle of the command, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        told = overridden([*paper_words(here), "cycles=1"], words)
        code, printed, said = answer_of("trade_stock_e2e", *told, cwd=folder)
    return CompletedProcess(told, code, printed, said)

"""The live commands, imported with every wait short: nothing takes long in the tests of faults.

What the project takes as a default of an argument is taken after the waits have been shortened. A
server that forks imports this once for all processes of a run; else each process does.
"""

# Private access: only the loader of pages compiles a page without values for it.

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

from tests.support.preloaded import forget_project, rehearse

LONGEST = 0.02  # seconds, the longest wait
PATIENCE = 0.3  # seconds that an order may take to fill
COMMANDS = ("trade_stock_e2e", "option_spreads.sell", "event_contracts.trade")
CONFIGS = ("live", "sell_spreads", "trade_kalshi")
PAGES = ("execution/status.html.j2", "foundation/sheet.html.j2")

_rest = time.sleep
_gettime = time.clock_gettime


class Clock:
    """This process's own clock.

    ahead: seconds by which it is ahead of this machine's.
    """

    ahead: Callable[[], int] = staticmethod(lambda: 0)


def _doze(seconds: Any) -> None:
    _rest(min(seconds, LONGEST))


def _read_clock(source: int) -> float:
    return _gettime(source) + Clock.ahead()


def _hurry() -> None:
    """Shorten the waits of modules that nobody has imported yet."""
    forget_project()
    from foundation import clock

    utc_now = clock.utc_now

    def read() -> np.datetime64:
        return utc_now() + np.timedelta64(Clock.ahead(), "s")

    time.sleep = _doze
    time.clock_gettime = _read_clock
    clock.utc_now = read
    clock.SYSTEM_TIME = clock.TimeSource(now=read, wait=_doze)

    from execution.live import commands, loop
    from execution.live.trading import TradingJob

    loop.MAX_WAIT_SECONDS = LONGEST
    loop.VENUE_RETRY_SECONDS = LONGEST
    commands.RETRY_SECONDS = LONGEST
    defaults: Any = TradingJob.__init__.__kwdefaults__
    assert defaults["patience"] > PATIENCE
    defaults["patience"] = PATIENCE


def _rehearse() -> None:
    """Keep what a process would compose, import and compile anew: settings, a decision, pages.

    What is left to compose is read by the parser in C.
    """
    from foundation.compose import CommandLine, validate_command_line
    from foundation.page import _load_template

    yaml.SafeLoader = yaml.CSafeLoader
    for config in CONFIGS:
        validate_command_line(CommandLine(config, ()))
    for page in PAGES:
        _load_template(page)
    rehearse()


def _import_commands() -> None:
    """What the commands stand on; each process runs the command's own file itself."""
    for name in COMMANDS:
        importlib.import_module(name)
        del sys.modules[name]
    from trainingdata import instants
    from trainingdata.timeframe import HOURLY

    instants.new_york_date(HOURLY.stock_clock.ends[:1])
    _rehearse()
    gc.collect()
    gc.freeze()


_hurry()
_import_commands()

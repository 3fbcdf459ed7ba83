"""What every command spends its first seconds on, imported once for all that a test run starts.

Libraries, and of the project all but the commands themselves: each runs its own file anew.
"""

# Private access: the module that holds the code of a command.
import gc
import importlib
import sys
from string import ascii_letters, digits

import alpaca.data.historical
import alpaca.trading.client
import arch.univariate
import chronos
import exchange_calendars
import hydra
import jinja2  # noqa: F401
import matplotlib.figure
import numba  # noqa: F401
import pandas  # noqa: F401
import pyarrow.dataset
import pyarrow.parquet  # noqa: F401
import pydantic  # noqa: F401
import rich.progress  # noqa: F401
import scipy.special
import torch  # noqa: F401
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from numba.core.registry import cpu_target

from foundation import PACKAGES
from foundation.cli import _run_module_name
from foundation.compose import compose_config
from foundation.plugin import merge_product_tables

LETTERS = f"{ascii_letters}_{ascii_letters}"

# What is built at the first use of a library, and kept: plugins, grammars, tables of types.
Plugins.instance()
OverridesParser.create().parse_overrides(
    [
        *("key=1.5", "key=[SYA,SYB]", "group/key=null", "+key='a'", "key=true", "a.b=[1,20,3.5]"),
        *(f"{LETTERS}.{LETTERS}={LETTERS}", f"key=http://{LETTERS}:{digits}/{LETTERS}"),
        *(f"key=/{LETTERS}-{digits}/{LETTERS}.{LETTERS}", f"key=[{LETTERS},{LETTERS}]"),
        *(f"key={first}{digits}" for first in "123456789"),
        *(f"key=0.{digits}", f"key=127.{digits}"),
    ]
)
cpu_target.target_context.refresh()
exchange_calendars.get_calendar("XNYS", start="1962-01-01")


def forget(names: set[str]) -> None:
    """Have modules imported anew by whoever asks for them next."""
    for name in names & sys.modules.keys():
        del sys.modules[name]


def forget_project() -> None:
    """Have all modules of the project imported anew."""
    forget({name for name in sys.modules if name.partition(".")[0] in PACKAGES})


def rehearse() -> None:
    """Load what decisions and their account are compiled to."""
    from marketsimulator.backtest import run_backtest
    from marketsimulator.settings import BacktestSettings

    words = ["symbols=[SYA]", "start=2024-06-27", "forecaster=ewma", "trials=null"]
    run_backtest(BacktestSettings.from_config(compose_config("backtest", words)))


_commands = {
    _run_module_name(command.module) for command in merge_product_tables("COMMANDS").values()
}
for _name in _commands:
    importlib.import_module(_name)
rehearse()
forget(_commands)


# A process that looks through all of this for garbage would copy every page of it.
gc.collect()
gc.freeze()

__all__ = ["alpaca", "arch", "chronos", "exchange_calendars", "hydra", "matplotlib", "scipy"]

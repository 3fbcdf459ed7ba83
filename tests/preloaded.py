"""What every command spends its first seconds on, imported once for all that a test run starts.

Libraries alone: the project's own modules are imported by each command anew.
"""

import alpaca.data.historical
import alpaca.trading.client
import arch.bootstrap
import arch.univariate
import chronos
import exchange_calendars
import hydra
import jinja2  # noqa: F401
import matplotlib.figure
import numba  # noqa: F401
import pandas  # noqa: F401
import plotly.graph_objects  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pydantic  # noqa: F401
import rich.console  # noqa: F401
import scipy.signal
import scipy.stats
import torch  # noqa: F401

exchange_calendars.get_calendar("XNYS", start="2000-01-01")

__all__ = ["alpaca", "arch", "chronos", "exchange_calendars", "hydra", "matplotlib", "scipy"]

"""Market data: instruments, exchange sessions, bars, and correlations of returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports
from foundation.cli import Command

if TYPE_CHECKING:
    from trainingdata.bars import Bars as Bars
    from trainingdata.correlation import CorrelationEstimator as CorrelationEstimator
    from trainingdata.correlation import CorrelationMatrix as CorrelationMatrix
    from trainingdata.instruments import AssetClass as AssetClass
    from trainingdata.instruments import Instrument as Instrument
    from trainingdata.instruments import instrument as instrument
    from trainingdata.source import DataSettings as DataSettings
    from trainingdata.source import load_bars as load_bars
    from trainingdata.synthetic import SyntheticMarket as SyntheticMarket

COMMANDS = {
    "download": Command(
        "trainingdata.download",
        config="live",
        interruption_text="files written so far are kept; run the command again to resume",
        log_name="download",
    ),
    "build_correlation_matrix_from_csvs": Command(
        "trainingdata.build_correlation_matrix_from_csvs"
    ),
}

__getattr__, __dir__, __all__ = lazy_exports(__name__)

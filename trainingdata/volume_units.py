"""The unit of crypto volume in a file, and the conversion of volume to coins.

Vendors differ by orders of magnitude: Yahoo's volume is in USD, that of Binance's coin-margined
futures counts contracts of 10 or 100 USD, and that of most other vendors counts coins. The volume
of stocks counts shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foundation.arrays import Array
from foundation.errors import DataError, InputError
from trainingdata.bars import CLOSE, HIGH, LOW, VOLUME, Bars
from trainingdata.file_formats import FileFormat, VolumeUnit

if TYPE_CHECKING:
    import pandas as pd

# USD value of a coin-margined contract: 100 for BTC, 10 for every other coin (Binance).
CRYPTO_CONTRACT_SIZES_USD = (10.0, 100.0)
_MIN_FITTING_SHARE = 0.99  # share of rows that must fit a unit
_ROUNDING_RTOL = 1e-3


class CryptoVolume(NamedTuple):
    """Volume of crypto, and whether its unit is known.

    coin_volume: [N] volume in coins, or in the file's unit if the unit is unknown.
    is_unit_known: whether the unit is known.
    note: description of the conversion; empty without a conversion.
    """

    coin_volume: Array
    is_unit_known: bool
    note: str = ""


def convert_crypto_volume(
    values: Array, frame: pd.DataFrame, file_format: FileFormat, unit: VolumeUnit | None, path: str
) -> CryptoVolume:
    """Convert the volume of rows [N, 5] to coins.

    The unit is the one that the rows show; otherwise the user's; otherwise the vendor's usual unit.

    values: [N, 5] prices and volume.
    frame: the rows, with the columns of the header.
    file_format: format of the file.
    unit: unit stated by the user; None: the unit of the format.
    path: path of the file, for messages.

    Raises DataError for a user's unit that contradicts the rows or the header.
    """
    volume = values[:, VOLUME]
    heading = file_format.ohlcv_columns[VOLUME]
    if (
        file_format.has_volume_unit_in_name
        and unit is not None
        and unit != file_format.crypto_volume_unit
    ):
        raise _contradiction_error(
            path, unit, f"the volume column {heading!r} is in {file_format.crypto_volume_unit}"
        )
    if file_format.quote_volume_column in frame.columns:
        shown = _infer_from_quote_volume(values, frame[file_format.quote_volume_column])
        if shown is not None and unit == "usd":
            raise _contradiction_error(
                path,
                unit,
                f"compared with {file_format.quote_volume_column}, the volume is in"
                f" {'contracts' if shown.note else 'coins'}",
            )
        if shown is not None:
            return shown
    usual = file_format.crypto_volume_unit
    if file_format.marker_columns and not {*file_format.marker_columns} & {*frame.columns}:
        usual = None
    used = unit or usual
    if used == "usd":
        source = "data.volume_unit" if unit else f"the format of {_vendor_name(file_format)}"
        note = f"volume is in USD ({source}) and is divided by the close"
        return CryptoVolume(volume / values[:, CLOSE], is_unit_known=True, note=note)
    if used == "coins" and usual == "usd":
        note = (
            f"volume is in coins (data.volume_unit), although {_vendor_name(file_format)} writes"
            " USD"
        )
        return CryptoVolume(volume, is_unit_known=True, note=note)
    return CryptoVolume(volume, is_unit_known=used is not None)


def _contradiction_error(path: str, unit: VolumeUnit, states: str) -> DataError:
    return DataError(
        f"{path}: data.volume_unit={unit} contradicts the file: {states}; remove the setting, or"
        " correct the header"
    )


def _vendor_name(head: FileFormat) -> str:
    """Return the vendor's name for messages, without other vendors that use the same columns."""
    return head.vendor.partition(",")[0]


def _infer_from_quote_volume(values: Array, column: pd.Series) -> CryptoVolume | None:
    """Infer the unit of volume from the quote volume; None if no unit fits, or several.

    If volume is in coins, quote volume over volume is a price within the bar. For coin-margined
    futures, whose quote volume is in coins, it is the contract size over a price within the bar.

    values: [N, 5] prices and volume.
    column: quote volume, the volume in the pair's other currency.
    """
    import pandas as pd

    quote = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    traded = values[:, VOLUME] > 0
    if not traded.any():
        return None
    ratio = quote[traded] / values[traded, VOLUME]
    low = values[traded, LOW] * (1 - _ROUNDING_RTOL)
    high = values[traded, HIGH] * (1 + _ROUNDING_RTOL)
    in_coins = np.mean((ratio >= low) & (ratio <= high)) >= _MIN_FITTING_SHARE
    in_contracts = any(
        np.mean((ratio >= size / high) & (ratio <= size / low)) >= _MIN_FITTING_SHARE
        for size in CRYPTO_CONTRACT_SIZES_USD
    )
    if in_coins == in_contracts:
        return None
    if in_coins:
        return CryptoVolume(values[:, VOLUME], is_unit_known=True)
    note = f"volume counts contracts; {column.name}, in coins, is used instead"
    return CryptoVolume(quote, is_unit_known=True, note=note)


def require_volume_units(bars: Bars, use: str, advice: str = "") -> None:
    """Raise `InputError` for bars whose unit of volume is unknown.

    use: setting or feature that needs the volume, for the message.
    advice: an alternative that needs no volume, for the message; empty for none.
    """
    for symbol, origin in zip(bars.symbols, bars.provenances, strict=False):
        if not origin.is_volume_unit_known:
            raise InputError(
                f"data.volume_unit: {origin.file} does not state whether the volume of {symbol} is"
                f" in coins or in USD, which {use} needs; set data.volume_unit=coins or"
                f" data.volume_unit=usd{advice and f', or {advice}'}"
            )

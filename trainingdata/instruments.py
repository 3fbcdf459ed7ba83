"""Instruments: symbols, their asset classes, and the increments of their quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache

from foundation.errors import InputError, closest_choices

# The smallest increment of any venue.
MIN_CRYPTO_QTY = Decimal("1e-9")


class AssetClass(StrEnum):
    """The asset class of a symbol.

    Stocks trade in regular New York hours, on margin, long or short. Crypto trades around the
    clock, in cash, long only.
    """

    STOCK = "stock"
    CRYPTO = "crypto"


_COIN = re.compile(r"[A-Z0-9]{2,12}[/-]?USD")
_STOCK = re.compile(r"[A-Z][A-Z0-9]{0,5}([.-][A-Z]{1,2})?")
# Share classes: Yahoo writes BRK-B, others BRK/B, Alpaca BRK.B.
_SHARE_CLASS = re.compile(r"([A-Z]{1,5})[-/]([A-Z])")
_FOREIGN = re.compile(r"\?[A-Z0-9._]{1,40}")
# Currency codes of ISO 4217; no stock ticker is as long as two of them.
_CURRENCY = (
    "EUR|GBP|JPY|CHF|AUD|CAD|NZD|CNH|CNY|SEK|NOK|DKK|PLN|CZK|HUF|TRY|ZAR|MXN|BRL|INR|KRW|SGD|HKD"
)
_EXCHANGE_RATE = re.compile(rf"({_CURRENCY})[/_-]?USDT?")
_NON_USD_PAIR = re.compile(
    rf"(?:([A-Z0-9]{{2,12}})[/_-]|([A-Z0-9]{{3,12}}))(BTC|ETH|BNB|USDC|BUSD|{_CURRENCY})"
)
_PAIR = re.compile(r"([A-Z0-9]{2,12})[/_-]?(USDT?)")
# Shiba Inu against the dollar, which reads like a pair quoted in BUSD.
_SHIB = re.compile(r"SHIB[/_-]?USDT?")
# Suffixes of file names: the length of a bar.
_BAR_LENGTH = re.compile(
    r"[ ._-]+(\d{1,2}-?(M|MIN|MINS|H|HR|D)|[MH]\d{1,2}|D1|HOURLY|DAILY)(_data)?$", re.IGNORECASE
)
# Exchanges in the names of files, as in bitstampUSD (Kaggle).
_EXCHANGES = "binance|bitfinex|bitstamp|bittrex|coinbase|exmo|gemini|kraken|kucoin|okx|poloniex"
_EXCHANGE_ALONE = re.compile(rf"({_EXCHANGES})[/_-]?USDT?", re.IGNORECASE)
# The period that an archive's file holds: BTCUSDT-1h-2023-01, Gemini_BTCUSD_2019_1min.
_DATE = r"(?:19|20)\d{2}(?:[_-]\d{2}){0,2}"
_PERIOD = re.compile(rf"[._-]{_DATE}(?:_to_{_DATE})?(?=_\w+$|$)")
# Pairs as archives name their files: BTCUSD_PERP-1h (Binance), XBTUSD_60 (Kraken, in minutes),
# Bitstamp_BTCUSD_d (CryptoDataDownload), BTCUSD60 (MetaTrader, in minutes).
_PAIR_FILE = re.compile(
    rf"(?:(?:{_EXCHANGES})_)?"
    r"([a-z0-9]{2,12}[/_-]?usdt?)(?:_perp)?"
    r"(?:\d{1,4}|[ ._-]+(?:\d{1,4}|d1|[mh]\d{1,2}"
    r"|\d{0,2}(?:m|min|minute|h|hr|hour|d|daily|hourly)))?",
    re.IGNORECASE,
)
# Texts that vendors add to a symbol in file names: BTCUSD_Candlestick_1_Hour_BID_01.01.2020-…,
# AAPL.USUSD_Candlestick_… (Dukascopy), amd_us_d (Stooq), AMD Historical Data (Investing.com),
# amd_daily_historical-data-11-30-2024 (Barchart), xnas-itch-20241129.ohlcv-1d.AMD (Databento);
# browsers number repeated downloads: AMD (1).
_FILE_NAME_AFFIXES = re.compile(
    r"^.*\.ohlcv-1[smhd]\."
    r"|(?:\.USUSD)?_Candlestick_.*"
    r"|_us_[dwmqy](?: .*)?$"
    rf"|(?: (?:{_EXCHANGES}))? Historical Data.*"
    r"|_(?:(?:daily|intraday)[\w-]*_historical-data|price-history)-.*"
    r"| ?\(\d+\)$",
    re.IGNORECASE,
)
# Affixes of symbols: X:BTCUSD (Polygon), AMD.US (Stooq).
_SYMBOL_AFFIXES = re.compile(r"^X:|\.US$", re.IGNORECASE)
_KRAKEN_COINS = {"XBT": "BTC", "XDG": "DOGE"}


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol with its trading rules.

    symbol: symbol in the spelling of positions, BTCUSD or NVDA.
    kind: asset class.
    qty_increment: lot size; by default whole shares and thousandths of a coin.
    is_tradable: whether the venue accepts orders in the instrument.
    is_borrowable: whether the stock can be borrowed now, and so be sold short.
    min_order_qty: minimum quantity of an order; 0 if the venue states none.
    """

    symbol: str
    kind: AssetClass
    qty_increment: Decimal
    is_tradable: bool = True
    is_borrowable: bool = True
    min_order_qty: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if self.qty_increment <= 0:
            raise ValueError(
                f"{self.symbol}: qty_increment must be above 0, got {self.qty_increment}"
            )

    @property
    def is_shortable(self) -> bool:
        """True for a stock that can be borrowed and sold short; always false for crypto."""
        return self.kind is AssetClass.STOCK and self.is_borrowable


def venue_spelling(symbol: str) -> str:
    """Return a symbol in the spelling of the venue's orders and bars: BTC/USD.

    The venue's positions, like this project, use BTCUSD.
    """
    if is_crypto(symbol):
        return f"{symbol.removesuffix('USD')}/USD"
    return symbol


def is_crypto(symbol: str) -> bool:
    return instrument(symbol).kind is AssetClass.CRYPTO


def is_stock(symbol: str) -> bool:
    """Return whether a symbol is not crypto; options and foreign symbols count as stocks."""
    return not is_symbol(symbol) or not is_crypto(symbol)


def placeholder_symbol(name: str) -> str:
    """Return a placeholder symbol for a position that is neither a stock nor crypto in USD.

    Such a position counts as an untraded stock, for equity and for margin.

    name: the venue's name of the position.
    """
    return f"?{re.sub('[^A-Z0-9.]', '_', name.upper())[:40] or '_'}"


def parse_symbols(words: Iterable[str]) -> list[str]:
    """Return the distinct symbols in the values of a setting.

    A value may list several symbols, separated by commas.
    """
    parts: list[str] = []
    for word in words:
        parts += [part for part in word.split(",") if part.strip()] or [word]
    return list(dict.fromkeys(normalize_data_symbol(part) for part in parts))


def normalize_data_symbol(text: str) -> str:
    """Return the symbol that a bar file means: BTCUSD for BTC-USD, BTC/USD, BTC-USDT and XBTUSD.

    X:BTCUSD (Polygon) is BTCUSD, and AMD.US (Stooq) is AMD.

    A price in USDT counts as a price in dollars. This applies to bars only: at a venue a pair
    against USDT is a different instrument.

    Raises InputError for another quote currency, or an invalid symbol.
    """
    name = _SYMBOL_AFFIXES.sub("", text.strip())
    if reason := format_non_usd_pair_error(name):
        raise InputError(f"symbols: {reason}")
    pair = _PAIR.fullmatch(name.upper())
    return f"{_KRAKEN_COINS.get(pair[1], pair[1])}USD" if pair else instrument(name).symbol


def format_non_usd_pair_error(text: str) -> str:
    """Return an error text for a crypto pair that is not quoted in dollars; else ""."""
    name = text.strip().upper()
    if _EXCHANGE_RATE.fullmatch(name):
        return f"{name} is an exchange rate; only stocks and crypto pairs in USD are supported"
    if _EXCHANGE_ALONE.fullmatch(name):
        return f"{name} is a crypto exchange; name the file after its pair, such as BTCUSD"
    pair = _NON_USD_PAIR.fullmatch(name)
    if pair is None or _SHIB.fullmatch(name):
        return ""
    base = pair[1] or pair[2]
    cure = "prices must be in USD" if base == "USD" else f"use {base}USD"
    return f"{name} is quoted in {pair[3]}, which is not supported; {cure}"


def is_quoted_in_usdt(text: str) -> bool:
    """Return whether a text is a pair against USDT, such as BTC-USDT."""
    pair = _PAIR.fullmatch(text.strip().upper())
    return pair is not None and pair[2] == "USDT"


def symbol_in_file_name(stem: str) -> str:
    """Return the symbol as a file name spells it, without bar length, period and vendor's text.

    nvda_1h gives nvda, BTC-USDT-5m gives BTC-USDT, BTCUSDT-1h-2023-01 gives BTCUSDT, XBTUSD_60
    gives XBTUSD, and AMD Historical Data gives AMD.

    stem: file name without its suffix.
    """
    plain = _FILE_NAME_AFFIXES.sub("", stem.strip())
    name = series_in_file_name(plain) or plain
    pair = _PAIR_FILE.fullmatch(name)
    return pair[1] if pair else _BAR_LENGTH.sub("", name)


def series_in_file_name(stem: str) -> str:
    """Return a dated file name without its date; an empty string for a name without a date.

    The files of a series have one name apart from the date: BTCUSDT-1h-2023-01 and
    BTCUSDT-1h-2023-02 belong to BTCUSDT-1h.

    stem: file name without its suffix.
    """
    name = stem.strip()
    series = _PERIOD.sub("", name)
    dated = series != name and (_PAIR_FILE.fullmatch(series) or _BAR_LENGTH.search(series))
    return series if dated else ""


def format_other_security_error(text: str) -> str:
    """Return an error text if a mixed-case name denotes another security than its upper-case form.

    On the consolidated tape a lower-case letter marks a preferred share, a right or a when-issued
    share: TpC is a preferred share of AT&T, TPC is Tutor Perini. The result is empty if both forms
    denote the same security: `Nvda` and `nvda` are NVDA.
    """
    name = text.strip()
    if name in (name.upper(), name.lower(), name.capitalize()) or not _STOCK.fullmatch(
        name.upper()
    ):
        return ""
    if _COIN.fullmatch(name.upper()):
        return ""
    return (
        f"{name} is not {name.upper()}: a lower-case letter marks a preferred share, a right or a"
        " when-issued share, which are not supported"
    )


def closest_symbols(symbol: str, known_symbols: Sequence[str]) -> list[str]:
    """Return the available symbol nearest to an unknown one; empty if none is similar.

    For BTC it is BTCUSD, if available, else the most similar symbol.

    known_symbols: available symbols.
    """
    pair = f"{symbol}USD"
    return [pair] if pair in known_symbols else closest_choices(symbol, known_symbols)


def is_symbol(text: str) -> bool:
    return bool(_COIN.fullmatch(text) or _STOCK.fullmatch(text))


def is_symbol_in_any_case(text: str) -> bool:
    """Return whether a user's text is a symbol, in upper or lower case."""
    return is_symbol(text.strip().upper()) and not format_other_security_error(text)


@cache
def instrument(symbol: str) -> Instrument:
    """Return the instrument of a symbol, with default trading rules.

    `BTCUSD`, `BTC/USD` and `BTC-USD` are one crypto pair, and `BRK.B`, `BRK-B` and `BRK/B` one
    share class. `?037833100` is a foreign security, which is not traded.

    Raises InputError for any other text.
    """
    if reason := format_other_security_error(symbol):
        raise InputError(f"symbols: {reason}")
    name = symbol.strip().upper()
    if match := _SHARE_CLASS.fullmatch(name):
        name = f"{match[1]}.{match[2]}"
    if _COIN.fullmatch(name):
        base = name.removesuffix("USD").rstrip("/-")
        return Instrument(f"{base}USD", AssetClass.CRYPTO, Decimal("0.001"))
    if _STOCK.fullmatch(name):
        return Instrument(name, AssetClass.STOCK, Decimal(1))
    if _FOREIGN.fullmatch(name):
        return Instrument(
            name, AssetClass.STOCK, Decimal(1), is_tradable=False, is_borrowable=False
        )
    raise InputError(
        f"symbols: {symbol!r} is neither a stock (NVDA, BRK.B) nor a crypto pair in USD (BTCUSD)"
    )

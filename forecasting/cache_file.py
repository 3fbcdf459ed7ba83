"""One file of kept forecasts: its rows, their specification, and its name, the digest of both.

A file lies in FOLDER/<address of the specification>/<month of issue>/. What it holds answers
nothing on another shelf: copied or moved there it is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Keys
from foundation.arrays import Array32, Instants
from foundation.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SIZE = HORIZON * len(LEVELS)
MOMENTS = "log_moments"  # median and log variance of the log return after each step
FIELD = b"specification"
REMEDY = "`python -m forecasting.cache prune` removes it"


class Unreadable(DataError):
    """A file that is gone, damaged or of another shelf; what it held can be computed again.

    path: of the file.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


def address(specification: str) -> str:
    """Name of the shelf of a specification, given as text."""
    return hashlib.sha256(specification.encode()).hexdigest()[:16]


def digest(specification: str, issued_at: Instants, keys: Keys, values: Array32) -> str:
    """Name of the file that holds these forecasts."""
    total = hashlib.blake2b(specification.encode(), digest_size=16)
    for part in (issued_at.astype("datetime64[ns]"), keys, values):
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()


def encoded(
    specification: str,
    symbols: npt.NDArray[np.str_],
    issued_at: Instants,
    keys: Keys,
    values: Array32,
    moments: Array32,
) -> bytes:
    """Parquet of forecasts [n, H, Q], their log moments [n, 2, H] and their specification."""
    import pyarrow as pa
    from pyarrow import parquet

    stamps = pa.array(issued_at.astype("datetime64[ns]"), type=pa.timestamp("ns", tz="UTC"))
    numbers = pa.array(np.ascontiguousarray(values).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(numbers, SIZE)
    names = pa.array(symbols.tolist(), type=pa.string()).dictionary_encode()
    sizes = pa.array(np.ascontiguousarray(moments).reshape(-1))
    columns = {
        "symbol": names,
        "issued_at": stamps,
        "key": pa.array(keys),
        "values": lists,
        MOMENTS: pa.FixedSizeListArray.from_arrays(sizes, 2 * HORIZON),
    }
    sink = pa.BufferOutputStream()
    parquet.write_table(
        pa.table(columns).replace_schema_metadata({FIELD: specification.encode()}),
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=["symbol"],
        use_byte_stream_split=["values.list.element", f"{MOMENTS}.list.element"],
        write_statistics=False,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def read(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a file that is whole and lies on its shelf.

    Raises
    ------
    Unreadable
        for one that is gone, damaged or of another shelf; the message says what to do about it.
    """
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            _check_shelf(path, file.metadata.metadata)
            table = file.read(columns=columns)
            for name in set(columns) - set(table.column_names):
                raise KeyError(f"it has no column {name}")
            return table
    except FileNotFoundError:
        raise Unreadable(path, "went away while it was being used (prune?)") from None
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise _damaged(path, error) from error


def read_values(path: Path) -> Array32:
    """Quantiles [n, H, Q] of a file."""
    return quantiles(read(path, ["values"]))


def read_moments(path: Path) -> Array32:
    """Log moments [n, 2, H] of a file."""
    return _lists(read(path, [MOMENTS]), MOMENTS).reshape(-1, 2, HORIZON)


def count(path: Path) -> int:
    """Forecasts in a file that lies on its shelf; its rows are not read."""
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.read_metadata(path)
        _check_shelf(path, metadata.metadata)
    except (OSError, ValueError, ArrowException) as error:
        raise _damaged(path, error) from error
    return int(metadata.num_rows)


def is_damaged(path: Path) -> bool:
    """Whether a file cannot be used, or its rows are not those that its name was made from."""
    try:
        table = read(path, ["issued_at", "key", "values"])
    except Unreadable:
        return True
    specification = str(table.schema.metadata[FIELD].decode())
    return digest(specification, issues(table), keys(table), quantiles(table)) != path.stem


def issues(table: pa.Table) -> Instants:
    """When each forecast was issued, [n]."""
    return np.asarray(_column(table, "issued_at").cast("int64").to_numpy().view("datetime64[ns]"))


def keys(table: pa.Table) -> Keys:
    """The key of each forecast, [n]."""
    return np.asarray(_column(table, "key").to_numpy())


def quantiles(table: pa.Table) -> Array32:
    """The forecasts, [n, H, Q]."""
    return _lists(table, "values").reshape(-1, HORIZON, len(LEVELS))


def _check_shelf(path: Path, metadata: dict[bytes, bytes] | None) -> None:
    """Refuse a file whose forecasts were made under another specification than its shelf's."""
    shelf = address((metadata or {}).get(FIELD, b"").decode(errors="replace"))
    if shelf != path.parent.parent.name:
        raise ValueError(f"it belongs on the shelf {shelf}, and answers nothing on this one")


def _damaged(path: Path, error: Exception) -> Unreadable:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Unreadable(path, f"damaged: {reason}; {REMEDY}")


def _lists(table: pa.Table, name: str) -> Array32:
    """The numbers of a column of lists, one list after another."""
    return np.asarray(_column(table, name).flatten().to_numpy(), dtype=np.float32)


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name).combine_chunks()

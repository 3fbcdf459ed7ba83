"""Reading of a table that a user supplies, CSV or Parquet, as rows of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def read_text_rows(
    path: Path,
    columns: Sequence[str],
    content_name_and_verb: tuple[str, str],
    optional_columns: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Read the rows of a file; return the stripped cells of each row by column name.

    An empty cell is an empty text. Column names match in any case.

    columns: required columns.
    content_name_and_verb: name of the content for messages, and its verb `have` or `has`.
    optional_columns: optional columns.

    Raises DataError for a file that cannot be read, or a column that is missing or repeated.
    """
    words, have = content_name_and_verb
    frame = read_text_frame(path, words)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; {words} {have} {', '.join(columns)}"
        )
    names = [name for name in (*columns, *optional_columns) if name in frame.columns]
    cells = frame[names].itertuples(index=False, name=None)
    return [dict(zip(names, row, strict=True)) for row in cells]


def read_text_frame(path: Path, content_name: str) -> pd.DataFrame:
    """Read a CSV or Parquet file as a frame of stripped texts with casefolded column names.

    An empty cell is an empty text; the index of a Parquet file is a column.

    content_name: content of the file, for messages.

    Raises DataError for a file that cannot be read, or a repeated column.
    """
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            if not isinstance(frame.index, pd.RangeIndex):
                frame = frame.reset_index()
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: cannot be read as {content_name}: it is empty") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["empty"])[0]
        raise DataError(f"{path}: cannot be read as {content_name}: {reason}") from error
    if why := format_separator_error(list(map(str, frame.columns))):
        raise DataError(f"{path}: {why}")
    frame.columns = pd.Index([str(name).strip().casefold() for name in frame.columns])
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{path}: column {twice!r} appears twice; keep one")
    return pd.DataFrame(
        {name: frame[name].map(_to_cell_text).astype("str") for name in frame.columns}
    )


def _to_cell_text(value: Any) -> str:
    """Return a cell as stripped text; dates in a Parquet file include their midnight."""
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return str(value).strip().removesuffix(" 00:00:00")


def format_separator_error(names: Sequence[str]) -> str:
    """Return an error text for a header separated by semicolons or tabs; else an empty text.

    names: column names as read with commas as separators.
    """
    for separator, name in _OTHER_SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            return f"cells are separated by {name}; save the file with commas"
    return ""

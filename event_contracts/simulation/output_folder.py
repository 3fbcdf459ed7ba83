"""The folder that a command writes its results into, checked before any work is done for it."""

from __future__ import annotations

from pathlib import Path

from foundation.errors import InputError
from foundation.files import check_output


def output_folder(name: str, *files: str, mark: str | None = None, overwrite: bool = False) -> Path:
    """The folder of a name, which need not be there yet.

    files: names of what will be written into it.
    mark, overwrite: as `check_output` takes them.

    Raises
    ------
    InputError
        for a name that no folder has, and one that cannot be made or written.
    """
    if not name.strip():
        raise InputError("output: a folder's name is needed")
    output = Path(name)
    try:
        check_output(output, mark, overwrite=overwrite)
        for each in files:
            if (output / each).is_dir():
                raise InputError(f"output: {output / each} is a folder, a file is needed there")
    except OSError as error:
        raise InputError(f"output: {name} cannot be written: {error.strerror}") from error
    return output

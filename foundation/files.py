"""Atomic file writes, and output folders that are checked and locked before a command's work."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OVERWRITE_KEY = "overwrite"  # key of a configuration that is not part of its settings
OVERWRITE_ARGUMENT = f"{OVERWRITE_KEY}=true"
SUMMARY_FILES = ("summary.json", "replay.json")  # summaries; a run's folder has one of them
DIGESTS_KEY = "digests"  # key in the summary: digests of the run's other files by name
OWNER_ONLY_MODE = 0o600  # permissions of a file that only its owner may read
UNFINISHED_MARKER = ".unfinished"  # present while the files of a run are renamed into place


def check_output_folder(
    folder: Path, marker: str | None = None, keys: Collection[str] = (), *, overwrite: bool = False
) -> None:
    """Check that a command may write to a folder, and lock it against other processes.

    Only one process at a time locks a folder: two writers would leave a mixture of files. The
    folder is created, and stays locked until `unlock_output_folders` or the end of the process.

    folder: output folder of the command.
    marker: glob pattern of a file that each run of the command writes. A folder with such a file
        belongs to an earlier run and is overwritten; any other folder must be empty. None: any
        content is accepted.
    keys: keys (JSON) or columns (Parquet) that this file has after every run.
    overwrite: whether to accept a folder with other content.

    Raises InputError if the folder cannot be written, contains other files, or is locked.
    """
    _refuse_folder(folder, f"output: {folder}")
    if marker is not None and not overwrite and folder.exists() and not _is_unfinished(folder):
        _refuse_foreign_content(folder, marker, keys)
    _lock_folder(folder)


def may_overwrite(config: DictConfig) -> bool:
    """Return whether the configuration allows an output folder with other content.

    Raises InputError for a value that is neither true nor false.
    """
    word = config.get(OVERWRITE_KEY, False)
    if not isinstance(word, bool):
        raise InputError(f"{OVERWRITE_KEY}: {word!r} is invalid; write true or false")
    return word


def resolve_output(
    config: DictConfig, marker: str, keys: Collection[str] = (), output: Path | None = None
) -> Path:
    """Return the output folder of a command, checked and locked.

    marker, keys: the file that marks an earlier run, as in `check_output_folder`.
    output: folder to use instead of the configured one.

    Raises InputError for a folder that may not be written to.
    """
    if output is None:
        if not str(config.output or "").strip():
            raise InputError("output: not set; set output=FOLDER")
        output = Path(str(config.output)).expanduser()
    refuse_data_folder(config, output)
    check_output_folder(output, marker, keys, overwrite=may_overwrite(config))
    return output


def refuse_data_folder(config: DictConfig, output: Path) -> None:
    """Raise `InputError` if the output folder is also a folder from which bars are read."""
    places = (config.get("data") or {}).get("dir") or ()
    for place in [places] if isinstance(places, str) else list(places):
        if Path(str(place)).expanduser().resolve() == output.resolve():
            raise InputError(
                f"output: {output} is also data.dir, the source of bars; choose another folder"
            )


def _refuse_foreign_content(folder: Path, mark: str, keys: Collection[str]) -> None:
    """Raise `InputError` for a folder with files, none of which is a marker of the same command.

    mark, keys: the marker file of a run, as in `check_output_folder`.
    """
    # Killed runs, editors and file managers leave hidden files.
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    of_that_name = sorted(folder.glob(mark))
    if held and not any(_has_keys_or_columns(path, keys) for path in of_that_name):
        foreign = of_that_name[0].name if of_that_name else held[0]
        raise InputError(
            f"output: {folder} contains {foreign}, which this command did not write; choose another"
            f" folder, or set {OVERWRITE_ARGUMENT}"
        )


_held: dict[Path, int] = {}  # open handles of locked folders, by path
_created_folders: list[Path] = []  # folders created to be locked, outer ones first


def _lock_folder(folder: Path) -> None:
    """Lock a folder for this process; create it if necessary."""
    path = folder.resolve()
    if path in _held:
        return
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        _created_folders.extend(reversed(missing))
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"output: {folder} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"output: {folder} is in use by another run; wait until it ends, or choose another"
            " folder"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return
    _held[path] = handle


def unlock_output_folders() -> None:
    """Unlock this process's output folders; remove those that it created and left empty."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()
    for folder in reversed(_created_folders):
        with suppress(OSError):  # not empty, or removed by another process
            folder.rmdir()
    _created_folders.clear()


def remove_empty_folder(folder: Path) -> None:
    """Remove an empty folder, unless another process has locked it."""
    with suppress(InputError, OSError):
        _lock_folder(folder)
        folder.rmdir()


def check_file_digests(folder: Path, name: str) -> None:
    """Raise `InputError` if files of a folder differ from the digests in the run's summary.

    Summaries without digests are not checked.

    name: setting that names the folder, for messages.
    """
    if _is_unfinished(folder):
        raise InputError(
            f"{name}: folder {folder} is incomplete: another run is writing it, or was interrupted;"
            " wait for that run, or repeat it"
        )
    for mark in SUMMARY_FILES:
        for file, digest in _read_summary_digests(folder / mark).items():
            path = folder / file
            if path.is_file() and file_digest(path) != digest:
                raise InputError(
                    f"{name}: {path} does not match {mark}: the file is from another run or was"
                    " modified; repeat the run"
                )


def _read_summary_digests(path: Path) -> Mapping[str, str]:
    """Return the digests in a run's summary by file name; empty without them."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    named = content.get(DIGESTS_KEY) if isinstance(content, dict) else None
    return named if isinstance(named, dict) else {}


def _is_unfinished(folder: Path) -> bool:
    return (folder / UNFINISHED_MARKER).exists()


def check_output_file(
    path: Path,
    name: str,
    is_ours: Callable[[Path], bool] | None = None,
    *,
    overwrite: bool = False,
    overwrite_argument: str = OVERWRITE_ARGUMENT,
) -> None:
    """Check, before any work, that a command may write a file.

    path: the file to write.
    name: name of the setting, for messages.
    is_ours: predicate for existing files that the command wrote and may overwrite; None: all files.
    overwrite: whether any other existing file may be overwritten.
    overwrite_argument: override or flag that allows overwriting, for the message.

    Raises InputError for a path that is a folder or is not writable, and for a file that the
    command did not write.
    """
    if path.is_dir():
        raise InputError(f"{name}: {path} is a folder; name a file")
    _refuse_folder(path.parent, f"{name}: {path}")
    if path.exists() and is_ours is not None and not (overwrite or is_ours(path)):
        raise InputError(
            f"{name}: {path} exists and was not written by this command; choose another path, or"
            f" pass {overwrite_argument}"
        )


def _refuse_folder(folder: Path, what: str) -> None:
    """Raise `InputError` for a folder that is not writable, or cannot be created."""
    absolute = folder.absolute()
    try:
        nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    except OSError as error:  # an invalid name
        raise InputError(f"{what} cannot be written: {error.strerror}") from error
    if not nearest.is_dir():
        raise InputError(f"{what} cannot be written: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{what} cannot be written: no write permission for {nearest}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path, *, is_private: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it replaces `path` if the block succeeds.

    The folder is created if necessary. A process that is killed in the block leaves a hidden
    `.NAME.HOST.PID.part`; `path` is unchanged.

    is_private: whether only the owner may read the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        if is_private:
            part.touch(mode=OWNER_ONLY_MODE)
        yield part
        # The content is flushed before the rename: otherwise a power failure could leave an empty
        # file in place of a whole one. The folder's entry is flushed last.
        flush_to_disk(part)
        part.replace(path)
        flush_to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def remove_stale_temporary_files(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes of this machine left behind."""
    for left in path.parent.glob(f".{escape(f'{path.name}.{platform.node()}')}.*.part"):
        if not _is_process_running(left.suffixes[-2][1:]):
            left.unlink(missing_ok=True)


def _is_process_running(number: str) -> bool:
    """Return whether a process with this id runs on this machine; True if unknown."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


def write_atomically(path: Path, content: bytes, *, is_private: bool = False) -> None:
    """Write a file atomically: its content is flushed to disk before the file gets its name.

    is_private: whether only the owner may read the file.
    """
    with atomic_file(path, is_private=is_private) as part:
        part.write_bytes(content)


def write_files_atomically(
    writers: Mapping[str, Callable[[Path], object]], output: Path, name: str = "output"
) -> None:
    """Write several files into a folder; rename them into place after all are written.

    During the renaming the folder is marked as unfinished. After a crash in that phase it contains
    files of two runs, which `check_file_digests` reports. Remaining files of the replaced run are
    removed.

    writers: function that writes each file to a path, by file name.
    output: the folder.
    name: name of the setting, for messages.

    Raises InputError if the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as staged:
            for file, write in writers.items():
                remove_stale_temporary_files(output / file)
                write(staged.enter_context(atomic_file(output / file)))
            if len(writers) > 1:
                (output / UNFINISHED_MARKER).touch()
                flush_to_disk(output)
                _remove_earlier_files(output, writers)
        (output / UNFINISHED_MARKER).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{name}: {output} cannot be written: {error.strerror}") from error


def _remove_earlier_files(output: Path, writers: Collection[str]) -> None:
    """Remove the files of the replaced run that the new run does not write.

    The old summary lists these files. Files that a user has changed since are kept.
    """
    marks = [mark for mark in SUMMARY_FILES if mark in writers]
    for mark in marks:
        for file, digest in _read_summary_digests(output / mark).items():
            path = output / Path(file).name
            if path.name not in writers and path.is_file() and file_digest(path) == digest:
                path.unlink()


def add_summary_writer(
    writers: Mapping[str, Callable[[Path], object]],
    summary_name: str,
    summary: Mapping[str, object],
) -> dict[str, Callable[[Path], object]]:
    """Return the writers of a run's files, and last a writer of the summary with their digests.

    writers: function that writes each file, by file name.
    summary_name: file name of the summary, one of `SUMMARY_FILES`.
    summary: content of the summary without the digests of the other files.
    """
    digests: dict[str, str] = {}

    def write_and_digest(file: str, path: Path) -> None:
        writers[file](path)
        digests[file] = file_digest(path)

    def write_summary(path: Path) -> None:
        content = {**summary, DIGESTS_KEY: digests}
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    return {
        **{file: partial(write_and_digest, file) for file in writers},
        summary_name: write_summary,
    }


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has_keys_or_columns(path: Path, names: Collection[str]) -> bool:
    """Return whether a file contains all names: keys of a JSON file, or columns of a Parquet file.

    The result is True for a folder.
    """
    # The command that writes the file refuses a folder in its place.
    if not names or path.is_dir():
        return True
    return (
        _read_parquet_columns(path) if path.suffix == ".parquet" else _read_json_keys(path)
    ).issuperset(names)


def _read_json_keys(path: Path) -> frozenset[str]:
    """Return the keys of a JSON object; empty for anything else."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, content)) if isinstance(content, dict) else frozenset()


def _read_parquet_columns(path: Path) -> frozenset[str]:
    """Return the columns of a Parquet file; empty for anything else."""
    from pyarrow import ArrowException, parquet

    try:
        return frozenset(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return frozenset()


NON_OWNER_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO  # permissions of the group and of all others


def restrict_to_owner(folder: Path) -> None:
    """Restrict a folder and its content to the owner; create the folder if necessary.

    Links are not changed. Files of other owners cannot be changed, which is logged. Every start
    checks every file; for 10,000 files this takes a fifth of a second.

    Raises OSError if the folder cannot be created.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    paths = [folder, *folder.rglob("*")]
    closed = sum(_restrict_to_owner(path) for path in paths if not path.is_symlink())
    if closed:
        _log_warning(
            "%s: %d files and folders were accessible to other users; access is now removed",
            folder,
            closed,
        )


def _restrict_to_owner(path: Path) -> bool:
    """Remove all access of others to a file or folder; return whether they had any."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & NON_OWNER_PERMISSIONS:
            return False
        path.chmod(mode & ~NON_OWNER_PERMISSIONS)
    except FileNotFoundError:
        return False  # another process has removed it
    except OSError as error:
        _log_warning(
            "%s: access of other users cannot be removed: %s", path, error.strerror or error
        )
        return False
    return True


def _log_warning(text: str, *values: object) -> None:
    import logging  # help loads this module and does not need logging

    logging.getLogger(__name__).warning(text, *values)

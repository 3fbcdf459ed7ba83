"""Files written whole or not at all, and outputs checked before any work is done for them."""

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

OVERWRITE_KEY = "overwrite"  # of a configuration, beside its settings
OVERWRITE = f"{OVERWRITE_KEY}=true"
SUMMARY_FILES = ("summary.json", "replay.json")  # what a run leaves in its folder, one of them
DIGESTS = "digests"  # there, of the other files by name
UNFINISHED_MARKER = ".unfinished"  # in a folder while the files of a run are given their names


def check_output(
    folder: Path, mark: str | None = None, keys: Collection[str] = (), *, overwrite: bool = False
) -> None:
    """Refuse a folder that cannot be written, before any work is done for it, and hold the others.

    One process at a time holds a folder: two that wrote it would leave a mixture. It is made, and
    held until `release_outputs`, or the end of the process.

    folder: that a command writes into.
    mark: pattern of a file that each run of the command leaves: a folder that holds one, with what
        the command writes there, is an earlier run's, and written again. Any other has to be empty.
        None: whatever it holds stays.
    keys: of that JSON file, or columns of that table, which it has after every run.
    overwrite: whether a folder that holds something else may be written to.
    """
    _refuse_folder(folder, f"output: {folder}")
    if mark is not None and not overwrite and folder.exists() and not _is_unfinished(folder):
        _refuse_another(folder, mark, keys)
    _hold(folder)


def may_overwrite(config: DictConfig) -> bool:
    """Return whether an output that holds something else may be written to."""
    word = config.get(OVERWRITE_KEY, False)
    if not isinstance(word, bool):
        raise InputError(f"{OVERWRITE_KEY}: {word!r} is neither true nor false")
    return word


def resolve_output(
    config: DictConfig, mark: str, keys: Collection[str] = (), output: Path | None = None
) -> Path:
    """Return the folder that a command writes into, once it may.

    mark, keys: the file that each run of the command leaves there, as in `check_output`.
    output: the folder, where it is not the one that the configuration names.
    """
    if output is None:
        if not str(config.output or "").strip():
            raise InputError("output: a folder's name is needed")
        output = Path(str(config.output)).expanduser()
    refuse_data_folder(config, output)
    check_output(output, mark, keys, overwrite=may_overwrite(config))
    return output


def refuse_data_folder(config: DictConfig, output: Path) -> None:
    """Refuse to write into a folder where bars are read from: files of results are no bars."""
    places = (config.get("data") or {}).get("dir") or ()
    for place in [places] if isinstance(places, str) else list(places):
        if Path(str(place)).expanduser().resolve() == output.resolve():
            raise InputError(f"output: {output} is data.dir, where bars are read; name another")


def _refuse_another(folder: Path, mark: str, keys: Collection[str]) -> None:
    """Refuse a folder that holds something else than an earlier run of the command."""
    # Hidden files are what killed runs, editors and file managers have left.
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    of_that_name = sorted(folder.glob(mark))
    if held and not any(_has(path, keys) for path in of_that_name):
        foreign = f"a {of_that_name[0].name} of another kind" if of_that_name else held[0]
        raise InputError(
            f"output: {folder} holds something else ({foreign}); only a folder that an earlier run"
            f" of this command wrote ({mark}) is written again: name another, or say {OVERWRITE}"
        )


_held: dict[Path, int] = {}  # open folders under a lock, by their paths
_made: list[Path] = []  # folders that were made to be held, outer ones first


def _hold(folder: Path) -> None:
    """Lock a folder for this process; it is made where there is none."""
    path = folder.resolve()
    if path in _held:
        return
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        _made.extend(reversed(missing))
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"output: {folder} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"output: {folder} is written by another run that has not ended; wait for its end, or"
            " name another folder"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return
    _held[path] = handle


def release_outputs() -> None:
    """Let other processes write the folders that this one has held; what stayed empty goes."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()
    for folder in reversed(_made):
        with suppress(OSError):  # something is in it, or somebody else has removed it
            folder.rmdir()
    _made.clear()


def remove_empty(folder: Path) -> None:
    """Remove a folder in which nothing is, unless another process holds it."""
    with suppress(InputError, OSError):
        _hold(folder)
        folder.rmdir()


def check_same_run(folder: Path, name: str) -> None:
    """Refuse a folder whose files are not all of the run that its summary is of.

    Earlier runs have left no digests: of theirs nothing is known.

    name: of the setting, for messages.
    """
    if _is_unfinished(folder):
        raise InputError(
            f"{name}: {folder} is unfinished: a run puts its files in place just now, or was ended"
            " while it did, and some may be an earlier run's; run it again"
        )
    for mark in SUMMARY_FILES:
        for file, digest in _digests(folder / mark).items():
            path = folder / file
            if path.is_file() and file_digest(path) != digest:
                raise InputError(
                    f"{name}: {path} belongs to another run than {mark}, or was changed"
                    " since; run it again"
                )


def _digests(path: Path) -> Mapping[str, str]:
    """Of the files beside a run's summary, by name; none where it names none."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    named = content.get(DIGESTS) if isinstance(content, dict) else None
    return named if isinstance(named, dict) else {}


def _is_unfinished(folder: Path) -> bool:
    return (folder / UNFINISHED_MARKER).exists()


def check_file(
    path: Path,
    name: str,
    is_ours: Callable[[Path], bool] | None = None,
    *,
    overwrite: bool = False,
    word: str = OVERWRITE,
) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    path: that a command writes.
    name: of the setting, for messages.
    is_ours: whether a file that is there was written by the command, and may be written again;
        None: any may.
    overwrite: whether any other is written again all the same.
    word: by which a user says so, for the message.
    """
    if path.is_dir():
        raise InputError(f"{name}: {path} is a folder, a file's name is needed")
    _refuse_folder(path.parent, f"{name}: {path}")
    if path.exists() and is_ours is not None and not (overwrite or is_ours(path)):
        raise InputError(
            f"{name}: {path} holds something else; only a file that an earlier run of this command"
            f" wrote is written again: name another, or say {word}"
        )


def _refuse_folder(folder: Path, what: str) -> None:
    """Refuse a folder in which nothing can be made, or that cannot be made itself."""
    absolute = folder.absolute()
    try:
        nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    except OSError as error:  # a name that no folder has
        raise InputError(f"{what} cannot be written: {error.strerror}") from error
    if not nearest.is_dir():
        raise InputError(f"{what} cannot be written: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{what} cannot be written: no permission in {nearest}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which replaces it once the block has ended well.

    Its folder is made where there is none.
    A process that is killed meanwhile leaves a hidden `.NAME.HOST.PID.part`; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        yield part
        # The content is on the disk before the name is, or a power failure could leave an empty
        # file in the place of a whole one; the folder's entry is the last to be written.
        flush_to_disk(part)
        part.replace(path)
        flush_to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def remove_stale_parts(path: Path) -> None:
    """Take away what killed processes of this machine have left of a file that they wrote."""
    for left in path.parent.glob(f".{escape(f'{path.name}.{platform.node()}')}.*.part"):
        if not _is_running(left.suffixes[-2][1:]):
            left.unlink(missing_ok=True)


def _is_running(number: str) -> bool:
    """Whether a process of this number runs on this machine, whoever's it is."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, on disk before it has its name."""
    with atomic_file(path) as part:
        part.write_bytes(content)


def write_files_atomically(
    writers: Mapping[str, Callable[[Path], object]], output: Path, name: str = "output"
) -> None:
    """Write every file into a folder, each put in place whole once all of them are written.

    While several are put in place the folder is marked: one in which a process was ended between
    two of them is a mixture, which `check_same_run` names. What is left there of the run that a run
    replaces goes.

    writers: by the file's name, what writes it to a path.
    output: the folder.
    name: of the setting, for messages.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as staged:
            for file, write in writers.items():
                remove_stale_parts(output / file)
                write(staged.enter_context(atomic_file(output / file)))
            if len(writers) > 1:
                (output / UNFINISHED_MARKER).touch()
                flush_to_disk(output)
                _remove_stale(output, writers)
        (output / UNFINISHED_MARKER).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{name}: {output} cannot be written: {error.strerror}") from error


def _remove_stale(output: Path, writers: Collection[str]) -> None:
    """Remove what an earlier run has left where a run is written anew.

    What was changed since is somebody's own, and stays.
    """
    marks = [mark for mark in SUMMARY_FILES if mark in writers]
    for mark in marks:
        for file, digest in _digests(output / mark).items():
            path = output / Path(file).name
            if path.name not in writers and path.is_file() and file_digest(path) == digest:
                path.unlink()


def run_files(
    writers: Mapping[str, Callable[[Path], object]], mark: str, summary: Mapping[str, object]
) -> dict[str, Callable[[Path], object]]:
    """What writes each file of a run, last its summary with the digests of the others.

    mark: the summary's file, one of `SUMMARY_FILES`.
    """
    digests: dict[str, str] = {}

    def write_and_digest(file: str, path: Path) -> None:
        writers[file](path)
        digests[file] = file_digest(path)

    def write_summary(path: Path) -> None:
        content = {**summary, DIGESTS: digests}
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    return {**{file: partial(write_and_digest, file) for file in writers}, mark: write_summary}


def flush_to_disk(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _has(path: Path, names: Collection[str]) -> bool:
    """Return whether a JSON file has these keys, or a table these columns; True without any."""
    # The command that writes the file refuses a folder in its place.
    if not names or path.is_dir():
        return True
    return (_columns(path) if path.suffix == ".parquet" else _keys(path)).issuperset(names)


def _keys(path: Path) -> frozenset[str]:
    """Return the keys of a JSON object; empty for anything else."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, content)) if isinstance(content, dict) else frozenset()


def _columns(path: Path) -> frozenset[str]:
    """Return the columns of a Parquet file; empty for anything else."""
    from pyarrow import ArrowException, parquet

    try:
        return frozenset(parquet.read_schema(path).names)
    except (OSError, ArrowException):
        return frozenset()


OTHERS_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO  # what a group and everybody else may do


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may read; one that is there is closed, all in it too.

    Links stay as they are, and so does what belongs to somebody else, which is said.
    Everything in it is looked at, at every start: 10,000 files take a fifth of a second.

    Raises OSError for a folder that cannot be made.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    paths = [folder, *folder.rglob("*")]
    closed = sum(_closed(path) for path in paths if not path.is_symlink())
    if closed:
        _warn("%s: others could read %d of its files and folders; now none", folder, closed)


def _closed(path: Path) -> bool:
    """Whether others had any access to a file or folder, which they have no more."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & OTHERS_PERMISSIONS:
            return False
        path.chmod(mode & ~OTHERS_PERMISSIONS)
    except FileNotFoundError:
        return False  # another process has taken it away
    except OSError as error:
        _warn("%s: others may read it: %s", path, error.strerror or error)
        return False
    return True


def _warn(text: str, *values: object) -> None:
    import logging  # help, which loads this module, does without

    logging.getLogger(__name__).warning(text, *values)

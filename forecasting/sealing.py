"""Sealed forecasts: a record that shows which forecasts were issued before their outcome was known.

Sealing makes each new file of a folder a batch. Its seal is a line of `seals.jsonl` with the file's
SHA-256, the instant of sealing and the digest of the line before. A change of an earlier line
changes all later digests (Haber and Stornetta 1991, Journal of Cryptology 3:2). A process that can
write the folder could rewrite the whole chain; a witness, a file outside the folder, therefore
keeps a copy. Seals without their witness count for nothing.

Instants of sealing are those of the operator's clock. They prove the time to nobody who does not
trust that clock: others rely on a digest (head) that was published before the outcome.

A forecast is sealed if its batch is unchanged and was sealed before, or shortly after, its issue
(`max_sealing_delay`). It counts from its seal: a forecast sealed after its issue trades at the
first price after the seal. Of several sealed forecasts of a symbol, instant and horizon the first
one counts. All others are hindsight. A batch that is missing or changed leaves a gap at each
instant of its sealed forecasts.

Whoever seals many records of noise will find a good one. The witnesses of one folder therefore
count the records: the j-th needs the evidence of a j-th attempt, also if others are missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_state_path

from forecasting.file_forecaster import (
    RowMatches,
    RowPortion,
    build_table_from_rows,
    check_rows,
    find_forecast_files,
    match_rows,
    name_forecasts,
    read_portions,
)
from forecasting.forecast import ForecastTable, Progress, no_progress
from foundation.arrays import Instants
from foundation.clock import utc_now
from foundation.errors import DataError, InputError
from foundation.files import file_digest, write_atomically
from trainingdata.bars import Bars
from trainingdata.instants import format_utc
from trainingdata.timeframe import DAILY

SealStatus = Literal["sealed", "hindsight"]

SEALS_FILE = "seals.jsonl"
FIRST_PREVIOUS = "0" * 64  # `previous` of a chain's first seal
MIN_SEALING_DELAY = np.timedelta64(60, "s")  # time to read a bar and to compute a forecast
SEALING_DELAYS_PER_BAR = 50  # a longer bar allows 1/50 of its length, 2 %
_NEVER = np.datetime64(np.iinfo(np.int64).max, "ns")  # no issue is as late
LOCK_SECONDS = 10.0  # longest wait for another process that seals


class Seal(NamedTuple):
    """Seal of a batch: one line of `seals.jsonl`, with instants as UTC text.

    number: number of the batch, from 1.
    file, size, sha256: name, size in bytes and digest of its file.
    rows, instants: number of its rows, and of their distinct instants of issue.
    first_issued_at, last_issued_at: first and last instant of issue.
    open_instants: instants of issue that may be in time for bars of any length.
    sealed_at: instant of sealing.
    previous, digest: digest of the seal before, and of this one.
    """

    number: int
    file: str
    size: int
    sha256: str
    rows: int
    instants: int
    first_issued_at: str
    last_issued_at: str
    open_instants: Sequence[str]
    sealed_at: str
    previous: str
    digest: str = ""

    def compute_digest(self) -> str:
        """Return the SHA-256 of all other fields, in hex."""
        fields = self._replace(digest="")._asdict()
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def sealing_instant(self) -> np.datetime64:
        return _parse_instant(self.sealed_at)


def max_sealing_delay(bar_length: np.timedelta64) -> np.timedelta64:
    """Return the longest time from issue to sealing: 60 s, or 2 % of a longer bar."""
    share = np.timedelta64(bar_length, "ns") // SEALING_DELAYS_PER_BAR
    return np.timedelta64(max(MIN_SEALING_DELAY, share))


def default_witness(folder: Path) -> Path:
    """Return the path of a folder's witness in this user's state directory."""
    place = folder.expanduser().resolve()
    name = f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:16]}"
    return user_state_path("kelly-chronos") / "seals" / f"{name}.jsonl"


def seal_folder(
    folder: Path,
    witness: Path | None = None,
    now: np.datetime64 | None = None,
    files: Collection[Path] | None = None,
) -> tuple[Seal, ...]:
    """Seal the new files of a folder; return the folder's seals, the last of which is the head.

    A file that is invalid is not sealed; it raises an error after the others have been sealed.

    folder: folder of forecast files (`forecasting.file_forecaster`).
    witness: the folder's witness; None: the default one.
    now: UTC instant of sealing; None: this machine's time.
    files: the files of the folder to seal; None: all.

    Raises
    ------
    InputError
        for a folder or a witness that cannot be used.
    DataError
        for an invalid file, and for a file that has changed since it was sealed.
    """
    if not folder.is_dir():
        raise InputError(f"seal: {folder} is not a folder; name the folder of forecasts")
    place = _resolve_witness(folder, witness)
    failures: list[DataError] = []
    with _lock_witness(place):
        seals = list(read_seals(place))
        copy = folder / SEALS_FILE
        if not seals and copy.exists():
            raise InputError(
                f"witness: {place} does not contain the seals of {copy}; name the witness that has"
                f" them, or delete {copy} to begin another record"
            )
        # A clock that was set back must not date a seal before an earlier one.
        at = max(
            [utc_now() if now is None else now, *(seal.sealing_instant for seal in seals[-1:])]
        )
        by_name = {seal.file: seal for seal in seals}
        for file in find_forecast_files(folder) if files is None else sorted(files):
            try:
                if file.name not in by_name:
                    seals.append(_seal_file(file, at, seals))
                elif file.stat().st_size != by_name[file.name].size:
                    raise DataError(
                        f"{file}: has changed since it was sealed; restore it, and write new"
                        " forecasts to a new file"
                    )
            except DataError as error:
                failures.append(error)
        _write_seals(seals, folder, place)
    if failures:
        raise failures[0]
    return tuple(seals)


def _seal_file(file: Path, now: np.datetime64, seals: Sequence[Seal]) -> Seal:
    """Return the seal of a file that follows the seals; raise `DataError` for an invalid file."""
    digest = file_digest(file)
    issued = [np.empty(0, dtype="datetime64[ns]")]
    for portion in read_portions([file]):
        check_rows(portion)
        issued.append(portion.issued_at())
    rows = sum(map(len, issued))
    instants = np.unique(np.concatenate(issued))
    if not rows:
        raise DataError(f"{file}: contains no forecast; add rows, or remove it")
    if file_digest(file) != digest:
        raise DataError(f"{file}: was written while it was read; seal it once it is complete")
    first = now - max_sealing_delay(DAILY.length)
    seal = Seal(
        len(seals) + 1,
        file.name,
        file.stat().st_size,
        digest,
        rows,
        len(instants),
        _format_instant(instants[0]),
        _format_instant(instants[-1]),
        list(map(_format_instant, instants[instants >= first])),
        _format_instant(now),
        seals[-1].digest if seals else FIRST_PREVIOUS,
    )
    return seal._replace(digest=seal.compute_digest())


def _write_seals(seals: Sequence[Seal], folder: Path, witness: Path) -> None:
    """Write the seals to the witness, then to the folder; note the folder's path at the witness.

    If a process is killed in between, the next one completes the rest.
    """
    if not seals:
        return
    content = "".join(json.dumps(seal._asdict(), sort_keys=True) + "\n" for seal in seals).encode()
    files = {
        witness: content,
        folder / SEALS_FILE: content,
        _folder_note(witness): str(folder.resolve()).encode(),
    }
    for path, data in files.items():
        if not (path.exists() and path.read_bytes() == data):
            write_atomically(path, data, is_private=True)


def read_seals(path: Path) -> tuple[Seal, ...]:
    """Read a file of seals, and verify the chain; without a file there are none.

    Raises DataError for a line that does not continue the chain.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the seals cannot be read; restore the file") from error
    seals: list[Seal] = []
    for number, line in enumerate(lines, 1):
        seal = _parse_seal(line)
        previous = seals[-1].digest if seals else FIRST_PREVIOUS
        if (
            seal is None
            or (seal.number, seal.previous) != (number, previous)
            or seal.digest != seal.compute_digest()
        ):
            raise DataError(
                f"{path}: line {number} does not continue the chain of seals: it was changed,"
                " moved or removed; restore the file"
            )
        seals.append(seal)
    return tuple(seals)


def _parse_seal(line: str | bytes) -> Seal | None:
    """Return the seal of a line; None for a damaged line."""
    try:
        return Seal(**json.loads(line))
    except (ValueError, TypeError):
        return None


class RecordCount(NamedTuple):
    """Records that the witnesses of one folder know.

    number: number of this record among them, from 1, by their first seals; an unsealed record comes
        last.
    total: number of records.
    missing: number of records whose folder or seals are gone or damaged.
    """

    number: int
    total: int
    missing: int


def count_records(witness: Path) -> RecordCount:
    """Count the records of all witnesses in the folder of one of them, by their first seals.

    A witness whose first seal is damaged counts as the first and as missing.
    """
    firsts: dict[Path, str] = {}
    missing = 0
    for each in filter(Path.is_file, {witness, *witness.parent.glob("*.jsonl")}):
        with each.open("rb") as lines:
            first = _parse_seal(lines.readline())
        firsts[each] = first.sealed_at if first else ""
        note = _folder_note(each)
        has_seals = note.exists() and (Path(note.read_text()) / SEALS_FILE).exists()
        missing += not (first and has_seals)
    order = sorted(firsts, key=lambda each: (firsts[each], each.name))
    number = 1 + order.index(witness) if witness in firsts else 1 + len(order)
    return RecordCount(number, max(len(order), number), missing)


def _folder_note(witness: Path) -> Path:
    """Return the path of the file, in the witness's folder, that names the sealed folder."""
    return witness.with_name(f"{witness.name}.folder")


class Batch(NamedTuple):
    """A batch of a record.

    seal: seal of the batch.
    path: path of its unchanged file; None for a gap, because the file is missing or has changed.
    """

    seal: Seal
    path: Path | None


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """The forecasts of a file or folder, with what its seals prove.

    path: path of the file or folder.
    batches: batches in the order in which they were sealed.
    unsealed: files without a seal, or changed since.
    delay: longest time from issue to sealing.
    count: number of this record among those sealed with it on this machine.
    """

    path: Path
    batches: tuple[Batch, ...]
    unsealed: tuple[Path, ...]
    delay: np.timedelta64
    count: RecordCount

    @property
    def head(self) -> str:
        """Digest of the last seal; empty without one."""
        return self.batches[-1].seal.digest if self.batches else ""

    @property
    def is_unwitnessed(self) -> bool:
        """True if the folder has seals that its witness does not contain."""
        return not self.batches and (self.path / SEALS_FILE).exists()

    @property
    def gap_instants(self) -> Instants:
        """Instants of issue of sealed forecasts whose batch is missing or has changed, sorted.

        A judge counts each of them as the largest loss.
        """
        gaps = [np.empty(0, dtype="datetime64[ns]")]
        for seal, path in self.batches:
            if path is None:
                issued = np.array(list(map(_parse_instant, seal.open_instants)), "datetime64[ns]")
                gaps.append(issued[issued >= self._first_in_time(seal)])
        return np.unique(np.concatenate(gaps))

    @property
    def known_at(self) -> dict[np.datetime64, np.datetime64]:
        """When the last forecast of an instant was sealed, for instants that are sealed later."""
        known: dict[np.datetime64, np.datetime64] = {}
        for seal, _ in self._first_batches:
            sealed = seal.sealing_instant
            for issued in map(_parse_instant, seal.open_instants):
                if issued < sealed <= issued + self.delay:
                    known[issued] = max(sealed, known.get(issued, sealed))
        return known

    @property
    def _first_batches(self) -> list[Batch]:
        """Batches in the order of sealing; of several with the same content the first."""
        batches: dict[str, Batch] = {}
        for batch in self.batches:
            batches.setdefault(batch.seal.sha256, batch)
        return list(batches.values())

    def _first_in_time(self, seal: Seal) -> np.datetime64:
        """Return the first instant of issue for which a seal is in time."""
        return seal.sealing_instant - self.delay

    def has_forecasts(self, status: SealStatus) -> bool:
        """Return whether the record has forecasts with a status, by its seals alone."""
        issued = [
            (seal.first_issued_at, seal.last_issued_at, self._first_in_time(seal))
            for seal, path in self._first_batches
            if path is not None
        ]
        if status == "sealed":
            return any(_parse_instant(last) >= since for _, last, since in issued)
        return bool(self.unsealed) or any(_parse_instant(at) < since for at, _, since in issued)

    def match_rows(self, bars: Bars) -> RowMatches:
        """Match the rows with bars.

        Raises DataError for an invalid row, and if no row can be judged.
        """
        files = [*(path for _, path in self.batches if path), *self.unsealed]
        found = match_rows(read_portions(files), bars)
        if not found.matched and not len(self.gap_instants):
            raise DataError(
                f"{self.path}: contains no forecast for {', '.join(bars.symbols[:5])} whose"
                f" issued_at is the end of a bar, such as {format_utc(bars.times[0])} or"
                f" {format_utc(bars.times[-1])}; correct issued_at, or choose other bars"
            )
        return found

    def forecasts(
        self,
        status: SealStatus,
        bars: Bars,
        since: np.datetime64 | Instants,
        progress: Progress = no_progress,
    ) -> ForecastTable:
        """Return the forecasts with a status, from each symbol's last one before `since` on.

        The first forecast of a symbol, instant and horizon counts. Forecasts that do not fit the
        bars are skipped. Raises DataError for an unsealed file with invalid rows, and without any
        forecast of the panel.
        """
        digests = {path: seal.sha256 for seal, path in self.batches if path}
        if status == "hindsight":
            digests |= {path: file_digest(path) for path in self.unsealed}
        return build_table_from_rows(
            self._portions(status),
            bars,
            since,
            progress,
            name=f"{name_forecasts(self.path, [*digests])}, {status}",
            path=self.path,
            digests=list(digests.values()),
            skip_invalid=True,
        )

    def _portions(self, status: SealStatus) -> Iterator[RowPortion]:
        """Yield the rows with a status, in the order of sealing.

        Sealed rows at the instant of a gap are omitted.
        """
        is_sealed = status == "sealed"
        gaps = self.gap_instants
        since = {path: self._first_in_time(seal) for seal, path in self._first_batches if path}
        paths = [*since, *(() if is_sealed else self.unsealed)]
        for portion in read_portions(paths):
            issued = portion.issued_at()
            first = np.array([since.get(path, _NEVER) for path in portion.paths])
            in_time = issued >= first[portion.file_index]
            chosen = in_time & ~np.isin(issued, gaps) if is_sealed else ~in_time
            if chosen.any():
                yield portion.select(chosen)


def read_record(
    path: Path, bar_length: np.timedelta64, witness: Path | None = None, head: str | None = None
) -> SealedRecord:
    """Read the record of a file or folder.

    Without a witness nothing is sealed, because the folder's own lines could have been written at
    any time.

    path: folder of forecast files, or one file of it, whose other files are then ignored.
    bar_length: length of the bars, which determines the longest delay of sealing.
    witness: the folder's witness; None: the default one.
    head: digest that was published; the chain must contain it.

    Raises
    ------
    InputError
        for a path or a witness that cannot be used.
    DataError
        for a chain of seals that was changed, or that lacks `head`.
    """
    folder = path if path.is_dir() else path.parent
    place = _resolve_witness(folder, witness)
    files = find_forecast_files(path, "forecasts")
    seals = read_seals(place)
    if head is not None and head not in {seal.digest for seal in seals}:
        raise DataError(
            f"head: {head} is not among the seals of {folder}; the record was changed, or the"
            " digest belongs to another one"
        )
    digests = {file: file_digest(file) for file in files}
    by_digest = {digest: file for file, digest in digests.items()}
    if path != folder:
        seals = tuple(seal for seal in seals if seal.file == path.name or seal.sha256 in by_digest)
    known = {seal.sha256 for seal in seals}
    return SealedRecord(
        path,
        tuple(Batch(seal, by_digest.get(seal.sha256)) for seal in seals),
        tuple(file for file in files if digests[file] not in known),
        max_sealing_delay(bar_length),
        count_records(place),
    )


def _resolve_witness(folder: Path, witness: Path | None) -> Path:
    """Return the path of a folder's witness; raise `InputError` if it is inside the folder."""
    place = (witness or default_witness(folder)).expanduser()
    if place.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"witness: {place} is inside {folder}, and would change with it; name a file elsewhere"
        )
    return place


@contextmanager
def _lock_witness(witness: Path) -> Iterator[None]:
    """Lock a witness against other processes during a `with` block."""
    try:
        witness.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(witness.with_name(f"{witness.name}.lock"), timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise InputError(f"witness: {witness} is in use by another process; try again") from None
    except OSError as error:
        raise InputError(
            f"witness: {witness}, or the sealed folder, cannot be written:"
            f" {error.strerror or error}; let this user write there"
        ) from error


def _format_instant(at: np.datetime64) -> str:
    return f"{np.datetime_as_string(at, unit='ms')}Z"


def _parse_instant(text: str) -> np.datetime64:
    return np.datetime64(text.removesuffix("Z"), "ns")

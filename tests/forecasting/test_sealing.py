"""Sealed forecasts count as issued; later changes of the folder gain nothing."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from forecasting import sealing
from forecasting.batch import run_batch, write_batch
from forecasting.file_forecaster import FileForecaster
from forecasting.forecast import MEDIAN_INDEX, ForecastTable
from forecasting.sealing import (
    SEALS_FILE,
    SealedRecord,
    SealStatus,
    default_witness,
    max_sealing_delay,
    read_record,
    read_seals,
    seal_folder,
)
from forecasting.settings import BatchSettings, ForecasterSettings
from foundation.errors import DataError, InputError
from tests.support.messages import refused
from trainingdata.bars import CLOSE, Bars
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY

HEADINGS = "symbol,issued_at,horizon,mean,deviation\n"
SYMBOLS = ("SYXUSD", "SYYUSD")
FIRST = np.datetime64("2024-03-18T01:00", "ns")
HOUR = np.timedelta64(3600, "s")
SECONDS = np.timedelta64(1, "s")
COUNT = 12  # sealed files, one an hour
LARGEST_LOSS = 1.0  # of an instant, far above any return of an hour


@pytest.fixture(scope="module")
def bars() -> Bars:
    return DataSettings(start="2024-01-02", end="2024-03-29").load_panel(
        SYMBOLS, "2024-03-18", "2024-03-18"
    )


def text(hour: int) -> str:
    return f"{np.datetime_as_string(FIRST + hour * HOUR, unit='s')}Z"


def write(folder: Path, name: str, rows: list[tuple[int, str, float]], horizon: int = 1) -> Path:
    """Write a file of forecasts (hour, symbol, mean)."""
    lines = [f"{symbol},{text(hour)},{horizon},{mean},0.01\n" for hour, symbol, mean in rows]
    path = folder / name
    path.write_text(HEADINGS + "".join(lines))
    return path


def means(hour: int) -> list[tuple[int, str, float]]:
    """Forecasts of an hour, without skill."""
    random = np.random.default_rng(hour)
    return [(hour, symbol, float(random.normal(0, 0.004))) for symbol in SYMBOLS]


def outcome(bars: Bars, hour: int, symbol: str) -> float:
    """Return of the bar after an hour."""
    closes = bars.values[bars.symbols.index(symbol), :, CLOSE]
    t = int(np.searchsorted(bars.times, FIRST + hour * HOUR))
    return float(closes[t + 1] / closes[t] - 1)


@dataclass
class Folder:
    """A folder whose owner has sealed a file an hour, ten seconds after its issue."""

    path: Path
    witness: Path
    bars: Bars

    def seal(self, hour: int, late: int = 10) -> str:
        now = FIRST + hour * HOUR + late * SECONDS
        return seal_folder(self.path, self.witness, now)[-1].digest

    def record(self, **how: object) -> SealedRecord:
        return read_record(self.path, HOURLY.length, self.witness, **how)  # type: ignore[arg-type]

    def gain(self, hour: int) -> float:
        """What an hour's forecasts as written would have gained."""
        return sum(mean * outcome(self.bars, hour, symbol) for _, symbol, mean in means(hour))

    def by_gain(self) -> list[int]:
        """Hours, the worst first."""
        return sorted(range(COUNT), key=self.gain)

    def file(self, hour: int) -> Path:
        return self.path / f"{hour:02d}.csv"

    def perfect(self, hour: int) -> list[tuple[int, str, float]]:
        return [
            (hour, symbol, 0.2 * np.sign(outcome(self.bars, hour, symbol))) for symbol in SYMBOLS
        ]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, bars: Bars) -> Path:
    place = tmp_path_factory.mktemp("sealed")
    made = Folder(place / "forecasts", place / "witness.jsonl", bars)
    made.path.mkdir()
    for hour in range(COUNT):
        write(made.path, f"{hour:02d}.csv", means(hour))
        made.seal(hour)
    return place


@pytest.fixture
def folder(tmp_path: Path, bars: Bars, sealed: Path) -> Folder:
    place = shutil.copytree(sealed, tmp_path / "mine")
    return Folder(place / "forecasts", place / "witness.jsonl", bars)


def refusal(action: Callable[[], object]) -> str:
    """Message of an error of an action; empty without one."""
    try:
        action()
    except DataError as error:
        return str(error)
    return ""


def table(record: SealedRecord, bars: Bars, status: SealStatus = "sealed") -> ForecastTable | None:
    found: list[ForecastTable] = []
    why = refusal(lambda: found.append(record.forecasts(status, bars, FIRST)))
    assert found or "contains no forecast" in why
    return found[0] if found else None


def score(record: SealedRecord, bars: Bars, status: SealStatus = "sealed") -> float:
    """Mean times outcome, summed over sealed forecasts; each gap costs the largest loss."""
    total = -LARGEST_LOSS * len(record.gap_instants)
    if (found := table(record, bars, status)) is None:
        return total
    windows = found.windows
    for row in range(len(windows)):
        symbol = bars.symbols[int(windows.symbol_index[row])]
        hour = int((windows.issued_at[row] - FIRST) / HOUR)
        mean = float(found.all_quantiles[row, 0, MEDIAN_INDEX] / found.price[row] - 1)
        total += mean * outcome(bars, hour, symbol)
    return total


def test_sealed_forecasts_equal_the_files(folder: Folder, bars: Bars) -> None:
    record = folder.record()
    found = table(record, bars)
    assert found is not None
    written = FileForecaster(folder.path).forecast(bars, FIRST)
    assert np.array_equal(found.all_quantiles, written.all_quantiles)
    assert score(record, bars) == pytest.approx(sum(map(folder.gain, range(COUNT))), abs=1e-8)
    assert table(record, bars, "hindsight") is None
    assert record.head == read_seals(folder.witness)[-1].digest
    assert (folder.path / SEALS_FILE).read_bytes() == folder.witness.read_bytes()
    assert stat.S_IMODE(folder.witness.stat().st_mode) == 0o600


Attack = Callable[[Folder], object]


def drop(*places: int) -> Attack:
    """Remove the files of the hours at these places, from the worst on."""
    return lambda f: [f.file(f.by_gain()[place]).unlink() for place in places]


def rewrite(*places: int) -> Attack:
    return lambda f: [
        write(f.path, f.file(f.by_gain()[k]).name, f.perfect(f.by_gain()[k])) for k in places
    ]


def add(name: str, *hours: int, horizon: int = 1) -> Attack:
    """Add a file of perfect forecasts of past hours."""
    return lambda f: write(f.path, name, [r for h in hours for r in f.perfect(h)], horizon)


def both(*attacks: Attack) -> Attack:
    return lambda f: [attack(f) for attack in attacks]


def swap(one: int, other: int) -> Attack:
    def attack(f: Folder) -> None:
        first, second = (f.file(f.by_gain()[place]) for place in (one, other))
        held = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(held)

    return attack


def edit(change: Callable[[str], str], place: int = 0) -> Attack:
    """Change the text of the file at a place, from the worst on."""

    def attack(f: Folder) -> None:
        path = f.file(f.by_gain()[place])
        path.write_text(change(path.read_text()))

    return attack


def seals(change: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> Attack:
    """Change the folder's chain, and compute valid digests of all its lines."""

    def attack(f: Folder) -> None:
        lines = change([seal._asdict() for seal in read_seals(f.witness)])
        previous, out = sealing.FIRST_PREVIOUS, []
        for number, fields in enumerate(lines, 1):
            seal = sealing.Seal(**{**fields, "number": number, "previous": previous})  # type: ignore[arg-type]
            seal = seal._replace(digest=seal.compute_digest())
            previous = seal.digest
            out.append(json.dumps(seal._asdict(), sort_keys=True) + "\n")
        (f.path / SEALS_FILE).write_text("".join(out))

    return attack


def forge(f: Folder) -> None:
    """Replace the whole record by a chain of perfect forecasts with the same instants."""
    for hour in range(COUNT):
        write(f.path, f"{hour:02d}.csv", f.perfect(hour))
    other = f.witness.with_name("other.jsonl")
    (f.path / SEALS_FILE).unlink()
    for hour in range(COUNT):
        seal_folder(f.path, other, FIRST + hour * HOUR, [f.file(hour)])


def link(f: Folder) -> None:
    worst = f.file(f.by_gain()[0])
    target = write(f.path, ".perfect.csv", f.perfect(f.by_gain()[0]))
    worst.unlink()
    worst.symlink_to(target)


def age(f: Folder) -> None:
    """Add perfect forecasts with the times of an early file."""
    path = write(f.path, "new.csv", f.perfect(2))
    at = f.file(2).stat().st_mtime - 1e6
    os.utime(path, (at, at))


def reverse(text: str) -> str:
    first, *rest = text.splitlines()
    return "\n".join([first, *reversed(rest)]) + "\n"


ATTACKS: dict[str, Attack] = {
    "drop the worst": drop(0),
    "drop the worst two": drop(0, 1),
    "drop every loss": drop(*range(COUNT // 2)),
    "drop all but the best": drop(*range(COUNT - 1)),
    "drop everything": drop(*range(COUNT)),
    "drop the last": lambda f: f.file(COUNT - 1).unlink(),
    "drop the worst and its line": both(
        drop(0), seals(lambda s: [each for each in s if int(str(each["file"])[:2]) != 0])
    ),
    "hide the worst": lambda f: f.file(f.by_gain()[0]).rename(f.path / ".worst.csv"),
    "move the worst to a folder": lambda f: (
        (f.path / "old").mkdir(),
        shutil.move(f.file(f.by_gain()[0]), f.path / "old"),
    ),
    "rename the worst's suffix": lambda f: f.file(f.by_gain()[0]).rename(f.path / "worst.txt"),
    "rewrite the worst": rewrite(0),
    "rewrite every file": rewrite(*range(COUNT)),
    "reverse the signs of the worst": edit(
        lambda t: t.replace(",1,-", ",1,").replace(",1,", ",1,-", 1)
    ),
    "widen the worst's deviation": edit(lambda t: t.replace("0.01\n", "0.09\n")),
    "delay the worst by an hour": edit(lambda t: t.replace(":00:00Z", ":30:00Z")),
    "backdate the worst": edit(lambda t: t.replace("2024-03-18", "2024-03-17")),
    "give the worst another horizon": edit(lambda t: t.replace(",1,", ",24,")),
    "keep half of the worst": edit(lambda t: "".join(t.splitlines(keepends=True)[:2])),
    "empty the worst": edit(lambda _: ""),
    "leave the worst without rows": edit(lambda _: HEADINGS),
    "damage the worst": edit(lambda _: "\0\0\0"),
    "append spaces to the worst": edit(lambda t: t + "\n\n"),
    "reorder the rows of the worst": edit(reverse),
    "swap best and worst": swap(0, COUNT - 1),
    "swap the two worst": swap(0, 1),
    "name files in another order": lambda f: [
        f.file(h).rename(f.path / f"{COUNT - h:02d}x.csv") for h in range(COUNT)
    ],
    "add perfect forecasts of the past": add("new.csv", *range(COUNT)),
    "add them under an early name": add("00.5.csv", *range(COUNT)),
    "add them in place of the worst": both(drop(0), add("00.5.csv", *range(COUNT))),
    "add other horizons": add("two.csv", *range(COUNT), horizon=2),
    "add the same instants in another zone": lambda f: write(
        f.path, "zone.csv", f.perfect(3)
    ).write_text(HEADINGS + f"{SYMBOLS[0]},2024-03-18T00:00-04:00,1,{f.perfect(3)[0][2]},0.01\n"),
    "spell the symbol in another way": lambda f: (f.path / "slash.csv").write_text(
        HEADINGS + f"SYX/USD,{text(3)},1,{f.perfect(3)[0][2]},0.01\n"
    ),
    "duplicate the best": lambda f: [
        shutil.copy(f.file(f.by_gain()[-1]), f.path / f"best{k}.csv") for k in range(5)
    ],
    "duplicate the best over the worst": lambda f: shutil.copy(
        f.file(f.by_gain()[-1]), f.file(f.by_gain()[0])
    ),
    "set back the time of a file": age,
    "link the worst to a perfect file": link,
    "forge the whole record": forge,
    "remove the chain": lambda f: (f.path / SEALS_FILE).unlink(),
    "cut the chain before the worst": seals(lambda s: s[:3]),
    "reverse the chain": seals(lambda s: s[::-1]),
    "date all seals to the first": seals(
        lambda s: [{**each, "sealed_at": s[0]["sealed_at"]} for each in s]
    ),
    "claim an early seal of perfect forecasts": both(
        add("new.csv", *range(COUNT)),
        seals(lambda s: [{**s[0], "file": "new.csv", "sha256": "0" * 64}, *s]),
    ),
    "add a damaged file": lambda f: (f.path / "0.parquet").write_bytes(b"PAR1 not really"),
    "turn the chain into noise": lambda f: (f.path / SEALS_FILE).write_text("noise"),
}


@pytest.mark.first_example
@pytest.mark.parametrize("attack", ATTACKS)
def test_changes_of_the_folder_gain_nothing(folder: Folder, bars: Bars, attack: str) -> None:
    """With the witness, without it, and after the owner has sealed again."""
    honest = score(folder.record(), bars) + 1e-12
    ATTACKS[attack](folder)
    assert score(folder.record(), bars) <= honest
    unknown = folder.witness.with_name("none.jsonl")
    alone: list[SealedRecord] = []
    refusal(lambda: alone.append(read_record(folder.path, HOURLY.length, unknown)))
    assert not any(record.has_forecasts("sealed") for record in alone)
    why = refusal(lambda: folder.seal(COUNT, late=0))
    assert not why or str(folder.path) in why
    assert score(folder.record(), bars) <= honest
    assert len(read_seals(folder.witness)) >= COUNT


@pytest.mark.parametrize(
    "attack",
    [
        "drop every loss",
        "rewrite the worst",
        "link the worst to a perfect file",
        "forge the whole record",
    ],
)
def test_the_same_changes_gain_without_seals(folder: Folder, bars: Bars, attack: str) -> None:
    assert len(ATTACKS) >= 40
    honest = score(folder.record(), bars)
    ATTACKS[attack](folder)
    believed = read_record(folder.path, HOURLY.length, folder.witness.with_name("none.jsonl"))
    assert score(believed, bars, "hindsight") > honest + 1e-6


def test_gap_is_each_instant_of_a_missing_batch(folder: Folder, bars: Bars) -> None:
    folder.file(3).unlink()
    record = folder.record()
    assert record.gap_instants.tolist() == [(FIRST + 3 * HOUR).item()]
    write(folder.path, "again.csv", folder.perfect(3))
    folder.seal(3 + COUNT)
    assert folder.record().gap_instants.tolist() == record.gap_instants.tolist()
    hindsight = table(folder.record(), bars, "hindsight")
    assert hindsight is not None
    assert set(hindsight.windows.issued_at) == {FIRST + 3 * HOUR}
    write(folder.path, "restored.csv", means(3))
    assert not len(folder.record().gap_instants), "the content counts, under any name"


@pytest.mark.parametrize(("late", "status"), [(-7200, "sealed"), (72, "sealed"), (73, "hindsight")])
def test_seal_after_the_delay_is_hindsight(
    tmp_path: Path, bars: Bars, late: int, status: SealStatus
) -> None:
    """An hourly bar allows 2 % of its length, 72 seconds."""
    made = Folder(tmp_path / "f", tmp_path / "w", bars)
    made.path.mkdir()
    write(made.path, "a.csv", means(2))
    made.seal(2, late)
    other: SealStatus = "hindsight" if status == "sealed" else "sealed"
    assert table(made.record(), bars, status) is not None
    assert table(made.record(), bars, other) is None
    (made.path / "a.csv").unlink()
    assert len(made.record().gap_instants) == (status == "sealed"), "hindsight leaves no gap"


def test_first_seal_of_equal_files_counts(folder: Folder, bars: Bars) -> None:
    before = folder.record()
    shutil.copy(folder.path / "00.csv", folder.path / "copy.csv")
    folder.seal(COUNT, late=50)
    record = folder.record()
    assert longest_delay(record) == 10 * SECONDS
    assert record.has_forecasts("sealed")
    assert not record.has_forecasts("hindsight")
    assert score(record, bars) == score(before, bars)
    assert record.head != before.head


def longest_delay(record: SealedRecord) -> np.timedelta64:
    return max(known - issued for issued, known in record.known_at.items())


@pytest.mark.parametrize("missing", [False, True])
def test_records_beside_a_witness_are_counted(folder: Folder, missing: bool) -> None:
    """Also those whose folder is gone: each is an attempt."""
    first = folder.record().count
    assert first == (1, 1, 0)
    for number in (2, 3):
        other = folder.path.with_name(f"other {number}")
        other.mkdir()
        write(other, "a.csv", means(3))
        witness = folder.witness.with_name(f"other-{number}.jsonl")
        seal_folder(other, witness, read_seals(folder.witness)[-1].sealing_instant + number)
        if missing:
            shutil.rmtree(other)
        found = read_record(folder.path, HOURLY.length, witness).count if not missing else None
        assert missing or found == (number, number, 0)
    assert folder.record().count == (1, 3, 2 * missing)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\n", b'{"number": 1}\n'])
def test_damaged_other_witness_counts_as_a_record(folder: Folder, content: bytes) -> None:
    folder.witness.with_name("other.jsonl").write_bytes(content)
    assert folder.record().count == (2, 2, 1)


def test_longest_delay_of_sealing_is_stated(folder: Folder) -> None:
    assert longest_delay(folder.record()) == 10 * SECONDS
    write(folder.path, "13.csv", means(COUNT))
    folder.seal(COUNT, late=41)
    write(folder.path, "14.csv", means(COUNT + 1))
    folder.seal(COUNT + 1, late=100)  # in hindsight
    assert longest_delay(folder.record()) == 41 * SECONDS


def test_sealing_delay_grows_with_the_bar() -> None:
    assert max_sealing_delay(np.timedelta64(5, "m")) == np.timedelta64(60, "s")
    assert max_sealing_delay(np.timedelta64(1, "D")) == np.timedelta64(1728, "s")


def test_unsealed_and_unwitnessed_forecasts_are_hindsight(folder: Folder, bars: Bars) -> None:
    for path in (folder.path, folder.file(3)):
        record = read_record(path, HOURLY.length)
        assert record.head == ""
        assert table(record, bars) is None
        assert table(record, bars, "hindsight") is not None


def test_one_file_of_a_folder_is_a_record(folder: Folder, bars: Bars) -> None:
    record = read_record(folder.file(3), HOURLY.length, folder.witness)
    found = table(record, bars)
    assert found is not None
    assert set(found.windows.issued_at) == {FIRST + 3 * HOUR}
    assert not len(record.gap_instants)


def test_first_sealed_forecast_counts(folder: Folder, bars: Bars) -> None:
    before = table(folder.record(), bars)
    write(folder.path, "a.csv", folder.perfect(COUNT))
    folder.seal(COUNT, 5)
    write(folder.path, "0.csv", [(COUNT, SYMBOLS[0], 0.05), *means(COUNT)])
    folder.seal(COUNT, 6)
    found = table(folder.record(), bars)
    assert before is not None
    assert found is not None
    assert len(found.windows) == len(before.windows) + 2
    latest = found.windows.issued_at == FIRST + COUNT * HOUR
    ratio = found.all_quantiles[latest, 0, MEDIAN_INDEX] / found.price[latest] - 1
    expected = [mean for _, _, mean in folder.perfect(COUNT)]
    np.testing.assert_allclose(ratio, expected, atol=1e-6)


def test_invalid_file_is_named_and_others_sealed(folder: Folder) -> None:
    write(folder.path, "good.csv", means(COUNT))
    write(folder.path, "bad.csv", [(COUNT, SYMBOLS[0], 7.0)])
    with refused(DataError, "bad.csv", "row 1"):
        folder.seal(COUNT)
    assert [seal.file for seal in read_seals(folder.witness)][-1] == "good.csv"
    (folder.path / "bad.csv").write_text(HEADINGS)
    with refused(DataError, "bad.csv"):
        folder.seal(COUNT)
    (folder.path / "bad.csv").unlink()
    folder.file(0).write_text(folder.file(0).read_text() + "\n")
    with refused(DataError, "00.csv", "new file"):
        folder.seal(COUNT)


def test_interrupted_seal_is_completed_by_the_next(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends between witness and folder, or before both."""
    write(folder.path, "new.csv", means(COUNT))

    def stop(path: Path, *_: object, **__: object) -> None:
        if path.name == SEALS_FILE:
            raise KeyboardInterrupt
        kept(path, *_, **__)  # type: ignore[arg-type]

    kept = sealing.write_atomically
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "write_atomically", stop)
        with pytest.raises(KeyboardInterrupt):
            folder.seal(COUNT)
    assert len(read_seals(folder.path / SEALS_FILE)) == COUNT
    head = folder.record().head
    assert folder.seal(COUNT, 50) == head, "nothing is sealed twice"
    assert (folder.path / SEALS_FILE).read_bytes() == folder.witness.read_bytes()


def test_seals_never_go_back_in_time(folder: Folder) -> None:
    write(folder.path, "new.csv", means(3))
    folder.seal(3)
    last = read_seals(folder.witness)[-1]
    assert last.sealed_at == read_seals(folder.witness)[-2].sealed_at
    assert last.open_instants == []


def test_record_is_equal_beside_its_witness_elsewhere(
    folder: Folder, bars: Bars, tmp_path: Path
) -> None:
    head = folder.record().head
    copied = shutil.copytree(folder.path, tmp_path / "elsewhere" / folder.path.name)
    witness = tmp_path / "copied.jsonl"
    witness.write_bytes(folder.witness.read_bytes())
    other = read_record(copied, HOURLY.length, witness, head)
    ours, theirs = table(folder.record(), bars), table(other, bars)
    assert ours is not None
    assert theirs is not None
    assert np.array_equal(ours.all_quantiles, theirs.all_quantiles)
    assert (ours.source_digest, ours.name) == (theirs.source_digest, theirs.name)
    with refused(DataError, "head", varies=r"at \S+/elsewhere/"):
        read_record(copied, HOURLY.length, witness, head="f" * 64)
    assert not read_record(copied, HOURLY.length, head=None).has_forecasts("sealed")
    with refused(InputError, "witness"):
        seal_folder(copied)


def test_witness_outside_the_folder_is_required(folder: Folder, tmp_path: Path) -> None:
    assert default_witness(folder.path) == default_witness(folder.path / ".." / folder.path.name)
    with refused(InputError, "witness"):
        seal_folder(folder.path, folder.path / "w.jsonl")
    with refused(InputError, "seal"):
        seal_folder(tmp_path / "none")
    with refused(InputError, "forecasts"):
        read_record(tmp_path / "none", HOURLY.length)
    folder.witness.write_text(folder.witness.read_text().replace('"number": 3', '"number": 4'))
    with refused(DataError, "witness.jsonl", "line 3"):
        folder.record()


def test_rows_without_a_bar_are_counted(folder: Folder, bars: Bars) -> None:
    assert folder.record().match_rows(bars).unmatched == 0
    path = write(folder.path, "more.csv", [(3, "ZZZ", 0.0), (-(10**5), "ZZZ", 0.0)])
    assert folder.record().match_rows(bars).unmatched == 2
    path.write_text(path.read_text().replace("ZZZ", SYMBOLS[0]).replace(":00:00Z", ":07:00Z"))
    assert folder.record().match_rows(bars).unmatched == 1
    with refused(DataError, SYMBOLS[0], varies=str(path)):
        read_record(path, HOURLY.length).match_rows(bars)


def test_moved_folder_lacks_its_witness(folder: Folder, tmp_path: Path) -> None:
    assert not folder.record().is_unwitnessed
    assert read_record(folder.path, HOURLY.length, tmp_path / "none").is_unwitnessed


def test_only_the_last_instant_of_a_batch_is_sealed(tmp_path: Path) -> None:
    settings = BatchSettings(
        ("SYA", "SYXUSD"),
        "2024-03-18",
        "2024-03-18",
        data=DataSettings(start="2024-01-02", end="2024-03-29"),
        forecaster=ForecasterSettings(kind="ewma", calibrated=False),
    )
    batch, file = run_batch(settings), tmp_path / "f.parquet"
    write_batch(batch, file)
    last = batch.windows.issued_at[batch.window_indices].max()
    seal_folder(tmp_path, now=last + 40 * SECONDS)
    record = read_record(file, HOURLY.length)
    assert set(record.forecasts("sealed", batch.bars, batch.start).windows.issued_at) == {last}
    hindsight = record.forecasts("hindsight", batch.bars, batch.start).windows.issued_at
    assert last not in hindsight

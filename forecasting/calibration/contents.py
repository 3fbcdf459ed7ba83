"""The address of a lesson: a digest of the bars that it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.windows import Keys, mixed
from foundation.arrays import Index, Instants
from trainingdata.bars import Bars

# own bars before a lesson's window that its first forecasts and averages look back on, at least
LOOK_BACK = 1024
LANES = (0x243F6A8885A308D3, 0x13198A2E03707344)  # two digests of 64 bits: first digits of pi


@dataclass(frozen=True, eq=False, slots=True)
class ClassContents:
    """Digests of a class's own bars. S symbols, M bars of all of them.

    members: [S] number of each symbol in the panel, rising.
    symbols: [S] their names.
    begin: [S + 1] where each symbol's bars lie.
    times: [M] instant at which each bar became known.
    total: [M + 1, 2] digests of the bars before each, summed: a span's is a difference.
    """

    members: Index
    symbols: tuple[str, ...]
    begin: Index
    times: Instants
    total: Keys

    @classmethod
    def of(cls, bars: Bars, members: Index) -> ClassContents:
        """Digests of these symbols' bars, each of a bar's instant and its values."""
        tables = [bars.real_bars(s) for s in members.tolist()]
        digests = [_digests(times, values) for times, values in tables]
        total = np.zeros((1 + sum(map(len, digests)), len(LANES)), dtype=np.uint64)
        if tables:
            np.cumsum(np.concatenate(digests), axis=0, out=total[1:])
        return cls(
            members=members,
            symbols=tuple(bars.symbols[s] for s in members.tolist()),
            begin=np.cumsum([0, *(len(times) for times, _ in tables)]),
            times=np.concatenate([np.empty(0, "datetime64[ns]"), *(times for times, _ in tables)]),
            total=total,
        )

    def own_times(self) -> Iterator[tuple[int, Instants]]:
        """Each symbol's number in the panel, and when each of its bars became known."""
        spans = zip(self.members.tolist(), self.begin, self.begin[1:], strict=False)
        return ((s, self.times[first:stop]) for s, first, stop in spans)

    def key(self, week: np.datetime64, window: int, look_back: int) -> str:
        """Digest of what a lesson comes from: its symbols' last bars and their numbers.

        week: the Friday 16:00 New York of the lesson. window: own bars that it learns from.
        look_back: own bars before them that count.
        """
        # Their numbers belong to it, because a lesson says from which own bar on its averages see;
        # and the bars before its window, as far as its first forecasts and averages look back.
        digest = hashlib.sha256()
        for symbol, first, stop in zip(self.symbols, self.begin, self.begin[1:], strict=False):
            end = int(np.searchsorted(self.times[first:stop], week, side="right"))
            start = max(end - window - look_back, 0)
            digest.update(f"{symbol} {end} ".encode())
            digest.update((self.total[first + end] - self.total[first + start]).tobytes())
        return digest.hexdigest()


def _digests(times: Instants, values: npt.NDArray[np.float64]) -> Keys:
    """[N, 2] digests of bars: their instants [N] and their values [N, 5]."""
    lanes = []
    for seed in LANES:
        digest = mixed(times.astype("datetime64[ns]").view(np.uint64) ^ np.uint64(seed))
        for column in values.T:
            digest = mixed(digest ^ np.ascontiguousarray(column).view(np.uint64))
        lanes.append(digest)
    return np.stack(lanes, axis=1)

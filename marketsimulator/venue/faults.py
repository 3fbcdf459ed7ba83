"""What goes wrong at a venue, on demand: answers that are late, lost, refused or nonsense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import InputError
from marketsimulator.venue.tickets import STATUSES

KINDS = (
    *("delay", "drop_before", "drop_after", "status", "malformed"),
    *("reject", "reject_later", "partial", "state", "skew"),
    *("silence", "duplicate", "out_of_order"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail, `count` times.

    kind: `delay` answers late by `seconds`; `drop_before` and `drop_after` close the connection
    without and with the request done; `status` answers with one (429, 500, 502, 504) and does
    nothing; `malformed` does it and answers with half a JSON; `reject` takes no order,
    `reject_later` turns one down that was taken; `partial` fills half of one and cancels the rest;
    `state` shows an order in `state`, which is not its own; `skew`: the clock says `seconds` too
    much; `silence`, `duplicate`, `out_of_order`: trade updates are not sent, sent twice, or the
    newer before the older. method, path: of the requests it meets, by their beginning.
    """

    kind: str
    count: int = 1
    method: str = ""
    path: str = ""
    status: int = 500
    seconds: float = 1.0
    state: str = "pending_new"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"faults: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.count < 1:
            raise InputError(f"faults: count {self.count} is below 1")
        if not 400 <= self.status < 600:
            raise InputError(f"faults: status {self.status} is outside 400 … 599")
        if self.state not in STATUSES:
            raise InputError(f"faults: state {self.state!r} is none of {', '.join(STATUSES)}")
        if not 0 <= self.seconds <= 3600:
            raise InputError(f"faults: seconds {self.seconds} is outside 0 … 3600")


class Faults:
    """What is still to go wrong, in order."""

    def __init__(self, planned: Sequence[Fault] = ()) -> None:
        self._left: list[list[Any]] = [[fault, fault.count] for fault in planned]

    def add(self, fault: Fault) -> None:
        """Plan one more."""
        self._left.append([fault, fault.count])

    def clear(self) -> None:
        """Forget all."""
        self._left.clear()

    def take(self, kinds: Sequence[str], method: str = "", path: str = "") -> Fault | None:
        """The first planned fault of these kinds that meets a request, counted down."""
        for entry in self._left:
            fault = entry[0]
            meets = (not fault.method or fault.method == method) and path.startswith(fault.path)
            if fault.kind in kinds and meets:
                entry[1] -= 1
                if entry[1] == 0:
                    self._left.remove(entry)
                return fault if isinstance(fault, Fault) else None
        return None


def fault_of(given: Mapping[str, Any]) -> Fault:
    """The fault of a JSON object.

    Raises
    ------
    InputError
        for a key or value that cannot be.
    """
    unknown = set(given) - set(Fault.__slots__)
    if unknown:
        raise InputError(
            f"faults: there is no {sorted(unknown)[0]!r}; a fault has {', '.join(Fault.__slots__)}"
        )
    try:
        return Fault(**given)
    except TypeError as error:
        raise InputError(f"faults: {error}") from None

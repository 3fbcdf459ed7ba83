"""Parts of a whole, made in several threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")

MOST = 16  # threads


def side_by_side(
    make: Callable[[Part], Made], parts: Iterable[Part]
) -> Generator[Made, None, None]:
    """`map`, a thread a processor: the next ones are made beside the use of one.

    As many as there are threads wait in memory. The threads have ended when it is closed.
    """
    workers = min(os.cpu_count() or 1, MOST)
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for part in parts:
            waiting.append(pool.submit(make, part))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

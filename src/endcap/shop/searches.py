"""What people searched for, told as a request tells it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.shop.interactions import SEARCH
from endcap.shop.shop import END_OF_TIME, Events

LAST_SEARCHES = 200  # of one person that a question tells, the last ones


class Searches:
    """The searches of one or more logs, by person and time; of a shop without any there are none to tell."""

    def __init__(self, *logs: Events) -> None:
        found = [_searches_of(log) for log in logs]
        user = np.concatenate([np.empty(0, np.int32), *(users for users, _, _ in found)])
        time = np.concatenate([np.empty(0, np.int64), *(times for _, times, _ in found)])
        order = np.lexsort((time, user))
        self._user, self._time = user[order], time[order]
        self._query = pa.chunked_array([texts for _, _, texts in found], pa.large_string()).take(pa.array(order))

    def __len__(self) -> int:
        return len(self._user)

    def before(self, user: int, time: int = END_OF_TIME, n: int = LAST_SEARCHES) -> tuple[tuple[str, int], ...]:
        """The last n searches of a person before a moment (microseconds), oldest first: texts and times."""
        if len(self) == 0:
            return ()
        begin, end = np.searchsorted(self._user, [user, user + 1])
        end = begin + np.searchsorted(self._time[begin:end], time)
        begin = max(begin, end - n)
        texts = self._query.slice(begin, end - begin).to_pylist()
        return tuple(zip(texts, self._time[begin:end].tolist(), strict=True))


def _searches_of(log: Events) -> tuple[NDArray[np.int32], NDArray[np.int64], pa.Array]:
    """Users, times and texts of a log's searches; those without a text are none."""
    if "query" not in log.columns.column_names:
        return log.user[:0], log.time[:0], pa.array([], pa.large_string())
    query = log.columns["query"]
    told = (log.interaction == SEARCH) & query.is_valid().to_numpy()
    texts = pc.cast(query.filter(pa.array(told)), pa.large_string()).combine_chunks()
    return log.user[told], log.time[told], texts

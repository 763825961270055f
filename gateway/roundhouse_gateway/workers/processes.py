"""What the processes of one gateway use, as one: the supervisor and all its workers."""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import ProcessCollector

_CPU: Final = "process_cpu_seconds_total"
_START: Final = "process_start_time_seconds"


class Processes:
    """`pids` are those that run, the supervisor's first; `ended_seconds` what those that ended have used.

    `most` is given what all have used, and says the most that was ever told: who has ended may be missed for
    a moment.
    """

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        ended_seconds: Callable[[], float],
        most: Callable[[float], float],
    ) -> None:
        self._pids = pids
        self._ended_seconds = ended_seconds
        self._most = most

    def text(self) -> bytes:
        """Sums, and when the first of them started. What they share of memory is counted for each."""
        heads: dict[str, str] = {}
        totals: dict[str, float] = {_CPU: self._ended_seconds()}
        for pid in self._pids():
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                for sample in metric.samples:
                    name = sample.name
                    heads[name] = f"# HELP {name} {metric.documentation}\n# TYPE {name} {metric.type}\n"
                    totals[name] = (
                        min(totals.get(name, sample.value), sample.value)
                        if name == _START
                        else totals.get(name, 0.0) + sample.value
                    )
        totals[_CPU] = self._most(totals[_CPU])
        return "".join(f"{head}{name} {totals[name]!r}\n" for name, head in heads.items()).encode()

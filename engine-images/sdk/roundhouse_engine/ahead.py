"""Several windows of one recording at a time: a GPU computes eight in little more than the time of one."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(compute: Callable[[Item], Result], items: Iterator[Item], most: int) -> Iterator[Result]:
    """What `compute` gives for each item, in the order of the items; `most` of them are computed at once.

    It must be safe in threads where that is more than one. An error is raised in its place, and nothing new
    is begun after it; what is under way is waited for, so whoever closes this early cancels that first.
    """
    if most == 1:
        yield from map(compute, items)
        return
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(most, thread_name_prefix="ahead") as threads:
        try:
            for item in items:
                under_way.append(threads.submit(compute, item))
                while under_way and (len(under_way) == most or under_way[0].done()):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for each in under_way:
                each.cancel()

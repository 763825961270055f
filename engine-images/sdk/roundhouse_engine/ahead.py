"""Several windows of one recording at a time: a GPU computes eight in little more than the time of one."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
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
    asked: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    threads: list[threading.Thread] = []
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(threads) < most:
                # Not an executor's, which Python's exit waits for: what a GPU computes that hangs never ends.
                thread = threading.Thread(target=_work, args=(compute, asked), daemon=True, name="ahead")
                thread.start()
                threads.append(thread)
            under_way.append(Future())
            asked.put((under_way[-1], item))
            while under_way and (len(under_way) == most or under_way[0].done()):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for each in under_way:
            each.cancel()
        for _ in threads:
            asked.put(None)
        for thread in threads:
            thread.join()


def _work(
    compute: Callable[[Item], Result], asked: "SimpleQueue[tuple[Future[Result], Item] | None]"
) -> None:
    while (order := asked.get()) is not None:
        _once(compute, *order)
        del order  # and with it the window, while none comes


def _once(compute: Callable[[Item], Result], future: "Future[Result]", item: Item) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(compute(item))
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        future.set_exception(error)
        del future, item  # else the error, which holds this frame, would hold itself

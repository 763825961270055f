"""The child of an isolated engine: loads the handler and computes, one thing at a time at each of its places.

It dies with its parent: by the kernel's signal, and by the end of their socket. Started by `process_runner`.
"""

import ctypes
import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from roundhouse_engine.accelerator import ACCELERATOR
from roundhouse_engine.authoring import HandlerError
from roundhouse_engine.errors import failed
from roundhouse_engine.events import (
    LONGEST_LINE,
    Event,
    Failed,
    LoadFailed,
    Work,
    ends,
    to_wire,
    work_from_wire,
)
from roundhouse_engine.handler import Cancellation, Handler, ModelSpec
from roundhouse_engine.handlers import resolve
from roundhouse_engine.logs import configure
from roundhouse_engine.pipeline import compute, load, prepare

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 5
_Job = tuple[int, Work, BinaryIO, Cancellation]
_Tell = Callable[[int | None, Event], None]


class Mailbox:
    """Reads the parent's lines in a thread of its own, so that a cancellation is heard during the work."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._descriptors: list[int] = []
        self._cancellations: dict[int, Cancellation] = {}
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def line(self) -> Mapping[str, Any]:
        while b"\n" not in self._buffer:
            data, descriptors, _, _ = socket.recv_fds(self._sock, 1 << 16, 4)
            self._descriptors += descriptors
            if not data:
                os._exit(0)  # the parent is gone, and nothing here is worth finishing
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Mapping[str, Any] = json.loads(line)
        return message

    def listen(self) -> None:
        """Does not return. Ends the process that cannot hear: it would take work, and never answer."""
        try:
            while True:
                self._hear(self.line())
        except BaseException:  # no descriptor came for want of a free one, or memory is short
            logger.exception("the server cannot be heard any more")
            os._exit(1)  # and another process is started

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "cancel" in message:
            if cancellation := self._cancellations.get(message["cancel"]):
                cancellation.cancel()
            return
        number = message["work"]
        cancellation = self._cancellations[number] = Cancellation()
        with os.fdopen(self._descriptors.pop(0), "rb") as asked:
            asked.seek(0)  # the parent wrote it, and both share the place in it
            ask = work_from_wire(json.load(asked))
        self.jobs.put((number, ask, os.fdopen(self._descriptors.pop(0), "rb"), cancellation))

    def forget(self, number: int) -> None:
        """It is over, and nothing can be cancelled of it."""
        self._cancellations.pop(number, None)


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        mailbox = Mailbox(sock)
        launch = mailbox.line()
        _die_with(launch["parent"])
        # The parent decides when work ends; a signal to the whole container must not cut a request off.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Probes are answered by the parent and come first, however busy the pod's cores are.
        os.nice(_NICENESS)
        configure(launch["log_level"], launch["log_format"])
        sys.path[:] = launch["path"]
        telling = threading.Lock()

        def tell(number: int | None, event: Event) -> None:
            line = line_of(number, event)
            with telling:
                sock.sendall(line)

        _serve(mailbox, launch, tell)


def _serve(mailbox: Mailbox, launch: Mapping[str, Any], tell: _Tell) -> None:
    models = tuple(
        ModelSpec(**entry | {"path": Path(entry["path"]) if entry["path"] else None})
        for entry in launch["models"]
    )
    threading.Thread(target=mailbox.listen, daemon=True, name="mailbox").start()
    try:
        handler = resolve(launch["handler"])
    except HandlerError as error:
        tell(None, LoadFailed(str(error)))
        return
    prepare(handler)
    handlers = load(handler, models, partial(tell, None))
    if not handlers:
        return
    # After the load: what a library says of the stacks of threads holds for these, too.
    places = range(launch["places"])
    workers = [threading.Thread(target=_work, args=(mailbox, handlers, tell), daemon=True) for _ in places]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(mailbox: Mailbox, handlers: Mapping[str, Handler], tell: _Tell) -> None:
    while True:
        number, ask, file, cancellation = mailbox.jobs.get()
        with file:
            events = compute(handlers[ask.model], file, ask, cancellation)
            for event in events:
                if ends(event):
                    mailbox.forget(number)
                try:
                    tell(number, event)
                # JSON has no numbers of libraries; or it is too long.
                except (TypeError, ValueError) as error:
                    cancellation.cancel()
                    for _ in events:
                        pass  # until nothing computes: the handler may take one request at a time
                    mailbox.forget(number)
                    tell(number, _unspeakable(event, error))
        if ACCELERATOR.lost:
            os._exit(1)  # and another process is started


def line_of(number: int | None, event: Event) -> bytes:
    """What the parent reads; raises `TypeError` or `ValueError`."""
    line = json.dumps((number, to_wire(event))).encode() + b"\n"
    if len(line) > LONGEST_LINE:
        raise ValueError(f"it is of {len(line):,} bytes, and {LONGEST_LINE:,} are the most")
    return line


def _unspeakable(event: Event, error: Exception) -> Failed:
    said = (
        f"The engine's own code is at fault: it gave a {type(event).__name__} that cannot be told: {error}."
    )
    logger.error(said)
    return Failed(failed(said).problem)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(0)


if __name__ == "__main__":
    main()

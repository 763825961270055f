"""Several workers of one gateway: their ports, what they share, and the code that each of them runs."""

import gc
import logging
import sys
from contextlib import ExitStack
from functools import partial

import uvloop

from roundhouse_gateway import logs
from roundhouse_gateway.api_access import ClusterError
from roundhouse_gateway.listener import bind
from roundhouse_gateway.server import serve
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.workers.member import Ends, Member
from roundhouse_gateway.workers.shared import Shared
from roundhouse_gateway.workers.supervisor import Supervisor

log = logging.getLogger("roundhouse.gateway")

CANNOT_START = 2


def supervise(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT; the exit status. Raises OSError where a port is not to be had."""
    with ExitStack() as ports:
        doors = [ports.enter_context(bind(settings, port)) for port in (settings.port, settings.metrics_port)]
        api, service = ("{}:{}".format(*each.getsockname()[:2]) for each in doors)
        log.info("listening on %s, metrics on %s, %d workers", api, service, settings.workers)
        shared = Shared.make(settings.workers)
        gc.collect()
        gc.freeze()  # what is never looked at again stays on pages that all workers share
        clients, cluster = doors
        status = Supervisor(shared, (clients, cluster), partial(_work, settings, shared)).serve()
    log.info("ended")
    return status


def _work(settings: Settings, shared: Shared, number: int, ends: Ends) -> int:
    """The life of one worker; its exit status."""
    logs.configure(settings.log_level, settings.log_format, number)
    try:
        uvloop.run(serve(settings, lambda: Member(shared, number, ends)))
    except (ClusterError, ImportError, OSError) as error:
        sys.stderr.write(f"roundhouse-gateway: worker {number}: {error}\n")
        return CANNOT_START
    except BaseException:
        log.critical("worker %d: fault", number, exc_info=True)
        raise
    finally:
        logs.request_log.flush()  # what was cut off last says so when no loop is left to write it
        sys.stdout.flush()
        sys.stderr.flush()
    return 0

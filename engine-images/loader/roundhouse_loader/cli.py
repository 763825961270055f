"""One run: read the environment, load or sweep, report. Whatever may go wrong ends here in a report."""

import logging
import sys
import time
from collections.abc import MutableMapping, Sequence

from . import report
from .certificates import trust
from .credentials import read_credentials, secret_values
from .failure import LoadError, Reason
from .load import Loaded, load, sweep
from .logs import configure
from .progress import Progress
from .redact import Redactor
from .settings import Settings, read_reporting, read_settings
from .sources import open_source
from .status_server import serving
from .ticker import ticking

log = logging.getLogger(__name__)


def main(environ: MutableMapping[str, str], arguments: Sequence[str] = ()) -> int:
    """The exit status: 0 when the weights are there, or gone where `sweep` was asked for; else 1."""
    redact = Redactor()
    reporting = read_reporting(environ)
    configure(reporting.log_level, reporting.log_format, redact)
    progress = Progress(time.monotonic, redact)
    with serving(reporting.port, progress), ticking(progress):
        try:
            settings = read_settings(environ)
            if _sweeps(arguments):
                sweep(settings, progress)
                said = report.SWEPT
            else:
                said = report.complete(_load(settings, environ, progress, redact))
        except LoadError as error:
            said = report.failed(error, redact)
            told = {"reason": error.reason.value, "error": error.message, "retryable": error.retryable}
            log.error("weights could not be loaded", extra=told)  # noqa: TRY400 - a trace would add nothing
            progress.enter("Failed")
        except Exception as error:
            log.exception("the loader itself failed")
            fault = f"the loader itself failed ({type(error).__name__}: {error}); its log says where"
            said = report.failed(LoadError(Reason.LOADER_FAILED, fault, retryable=True), redact)
            progress.enter("Failed")
        else:
            log.info("done", extra=said)
            progress.enter("Complete")
        report.write(reporting.termination_log, said)
    sys.stderr.flush()
    return 1 if said["result"] == "Failed" else 0


def _sweeps(arguments: Sequence[str]) -> bool:
    if arguments and list(arguments) != ["sweep"]:
        raise LoadError(
            Reason.INVALID_SOURCE, f"the arguments are {list(arguments)!r}; give none, or `sweep`"
        )
    return bool(arguments)


def _load(
    settings: Settings, environ: MutableMapping[str, str], progress: Progress, redact: Redactor
) -> Loaded:
    credentials = read_credentials(settings.credentials)
    redact.add(secret_values(credentials))
    trust(environ)
    return load(settings, lambda: open_source(settings, credentials, environ), progress)

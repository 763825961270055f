"""One run: read the environment, load, report. Everything that may go wrong ends here in a report."""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Final

from . import report
from .cache import Complete
from .credentials import read_credentials, secret_values
from .failure import LoadError, Reason
from .load import load
from .logs import configure
from .progress import Progress
from .redact import Redactor
from .settings import Settings, read_reporting, read_settings
from .sources import open_source
from .status_server import serving
from .ticker import ticking

# Each client reads another one of these; one bundle for all of them is what anybody means.
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")

log = logging.getLogger(__name__)


def main(environ: MutableMapping[str, str]) -> int:
    """The exit status: 0 when the weights are there, else 1."""
    redact = Redactor()
    reporting = read_reporting(environ)
    configure(reporting.log_level, reporting.log_format, redact)
    progress = Progress(time.monotonic)
    with serving(reporting.port, progress), ticking(progress):
        try:
            settings = read_settings(environ)
            found = _load(settings, environ, progress, redact)
        except LoadError as error:
            said = report.failed(error, redact)
            told = {"reason": error.reason.value, "error": error.message, "retryable": error.retryable}
            log.error("weights could not be loaded", extra=told)  # noqa: TRY400 - a trace would add nothing
            progress.enter("Failed")
        except Exception as error:
            log.exception("the loader itself failed")
            fault = f"the loader itself failed ({type(error).__name__}: {error}); its log says where"
            said = report.failed(LoadError(Reason.INVALID_SOURCE, fault, retryable=True), redact)
            progress.enter("Failed")
        else:
            said = report.complete(found)
            log.info("weights are complete", extra=found.as_json())
            progress.enter("Complete")
        report.write(reporting.termination_log, said)
    sys.stderr.flush()
    return 0 if said["result"] == "Complete" else 1


def _load(
    settings: Settings, environ: MutableMapping[str, str], progress: Progress, redact: Redactor
) -> Complete:
    credentials = read_credentials(settings.credentials)
    redact.add(secret_values(credentials))
    _share_certificates(environ)
    return load(settings, lambda: open_source(settings, credentials, environ), progress)


def _share_certificates(environ: MutableMapping[str, str]) -> None:
    given = next((environ[name] for name in _BUNDLES if environ.get(name)), None)
    for name in _BUNDLES if given else ():
        environ.setdefault(name, str(given))

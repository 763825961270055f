"""A repository of the Hugging Face Hub, or of a mirror that speaks its API.

The official client asks what is there. The bytes are fetched by `web`: the client would verify sizes alone,
keep a cache of its own, and ask further hosts for them.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

import httpx2

from roundhouse_loader.failure import LoadError, Reason, TransientError
from roundhouse_loader.listing import UNKNOWN, Algorithm, Digest, Listing, RemoteFile
from roundhouse_loader.partial import Sink
from roundhouse_loader.selection import choose
from roundhouse_loader.source import HuggingFace, Source
from roundhouse_loader.web import TRANSIENT_STATUSES, RefusedError, Web, connection_errors, retry_after

# The client reads these when it is imported. It is to call nobody but the hub that it is given.
os.environ |= dict.fromkeys(
    ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_XET"), "1"
)

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import ModelInfo, RepoSibling

PUBLIC_HUB: Final = "https://huggingface.co"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT: Final = re.compile(r"[0-9a-f]{7,39}")


class HuggingFaceFetcher:
    """Fetches `place` from the hub at HF_ENDPOINT; the credential `token` is optional."""

    def __init__(
        self,
        place: HuggingFace,
        source: Source,
        credentials: Mapping[str, str],
        web: Web,
        environ: Mapping[str, str],
    ) -> None:
        self._place = place
        self._source = source
        self._web = web
        self._endpoint = environ.get("HF_ENDPOINT", "").rstrip("/") or PUBLIC_HUB
        self._token = credentials.get("token", "").strip()
        self._commit = place.revision

    def listing(self) -> Listing:
        info = self._ask()
        self._commit = info.sha or self._place.revision
        if _COMMIT.fullmatch(self._place.revision) and self._commit != self._place.revision:
            raise LoadError(
                Reason.DIGEST_MISMATCH,
                f"{self._where()} is pinned, and {self._endpoint} answers with commit {self._commit!r}; "
                "the mirror is not faithful",
            )
        siblings = {each.rfilename: each for each in info.siblings or ()}
        choice = choose(sorted(siblings), self._source, self._place.include, by_format=True)
        return Listing(
            self._commit,
            tuple(self._file(siblings[path]) for path in choice.wanted),
            left_out=choice.left_out,
        )

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        url = hf_hub_url(self._place.repo, file.remote, revision=self._commit, endpoint=self._endpoint)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            self._web.download(url, sink, secret_headers=headers)
        except RefusedError as refused:
            raise self._explained(refused.status, refused.headers) from refused

    def _ask(self) -> ModelInfo:
        api = HfApi(endpoint=self._endpoint, token=self._token or False, library_name="roundhouse-loader")
        try:
            with connection_errors(self._endpoint):
                info = api.model_info(
                    self._place.repo,
                    revision=self._place.revision,
                    files_metadata=True,
                    timeout=self._web.timeout_seconds,
                )
        except HFValidationError as error:
            raise LoadError(Reason.INVALID_SOURCE, f"huggingFace.repo: {error}") from error
        except HfHubHTTPError as error:
            raise self._explained(error.response.status_code, error.response.headers) from error
        except ValueError as error:
            raise LoadError(
                Reason.INVALID_SOURCE,
                f"{self._endpoint} does not answer as a Hugging Face Hub does; check HF_ENDPOINT",
            ) from error
        return info

    def _file(self, sibling: RepoSibling) -> RemoteFile:
        digest, size = None, sibling.size
        if sibling.lfs:
            digest, size = Digest(Algorithm.SHA256, sibling.lfs.sha256), sibling.lfs.size
        elif sibling.blob_id and size is not None:
            digest = Digest(Algorithm.GIT, sibling.blob_id)
        return RemoteFile(
            path=sibling.rfilename,
            size=UNKNOWN if size is None else size,
            identity=f"{digest.algorithm}:{digest.value}" if digest else f"commit:{self._commit}",
            remote=sibling.rfilename,
            digest=digest,
        )

    def _where(self) -> str:
        return f"{self._place.repo!r} at revision {self._place.revision!r}"

    def _explained(self, status: int, headers: httpx2.Headers) -> LoadError | TransientError:
        code = headers.get("X-Error-Code", "")
        if status in TRANSIENT_STATUSES:
            return TransientError(f"{self._endpoint} answered {status}", wait_seconds=retry_after(headers))
        repo = f"the repository {self._place.repo!r} at {self._endpoint}"
        if code == "GatedRepo":
            hint = "accept its terms there with the account whose token it is, and give the token"
            return LoadError(Reason.UNAUTHORIZED, f"{repo} is gated: {hint} by `tokenSecretRef`")
        if status in {401, 403}:
            known = "does not accept the token" if self._token else "does not exist, or is private"
            hint = "check the token" if self._token else "check the name, or give a token by `tokenSecretRef`"
            return LoadError(Reason.UNAUTHORIZED, f"{repo} {known} (status {status}); {hint}")
        if code == "RevisionNotFound":
            short = _SHORT_COMMIT.fullmatch(self._place.revision)
            hint = "; a commit is named by all of its 40 digits" if short else ""
            return LoadError(
                Reason.SOURCE_NOT_FOUND, f"{repo} has no revision {self._place.revision!r}{hint}"
            )
        if status in {404, 410}:
            seen = ", or the token may not see it" if self._token else ""
            return LoadError(
                Reason.SOURCE_NOT_FOUND, f"{repo} does not exist{seen}; check `huggingFace.repo`"
            )
        return LoadError(
            Reason.SOURCE_UNREACHABLE,
            f"{repo} cannot be read: status {status} {code}".rstrip(),
            retryable=True,
        )

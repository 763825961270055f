"""A local hub that speaks the Hugging Face API, as far as its official client goes to fetch models.

Model info, trees, paths-info and `resolve`, with commits and branches, large files on a second host behind a
signed redirect (as the Hub's CDN), gated and private repositories, and the Hub's own error codes.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Self, cast
from urllib.parse import unquote

from typing_extensions import override

from .origin import Fault, Origin, OriginHandler, Seen

LARGE = {".safetensors", ".bin", ".gguf", ".onnx", ".pt", ".pkl", ".nemo", ".ckpt"}
SIGNATURE = "Signature=5igned-by-the-hub"
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(?:/(?P<verb>revision|tree|paths-info)/(?P<rest>.*))?")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
NOT_FOUND = ("RepoNotFound", "Repository not found")


@dataclass(slots=True)
class Repository:
    """Files by path for each commit, and the commit of each branch or tag."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    """Without it nobody sees that the repository exists."""
    gated_for: str | None = None
    """Everybody sees it; only this token may read it."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes that the hub claims against the truth."""


class Hub(Origin):
    """The hub while its context is open; `cdn` is the host that large files come from."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host=host)
        self.repositories: dict[str, Repository] = {}
        self.cdn = Origin(host=host)

    @override
    def handler(self) -> type[OriginHandler]:
        return _HubHandler

    @override
    def __enter__(self) -> Self:
        self.cdn.__enter__()
        return super().__enter__()

    @override
    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.cdn.__exit__()

    def commit(self, repo: str, files: dict[str, bytes], *, revision: str = "main") -> str:
        """Make `files` the newest state of a branch; the commit. The repository is made if need be."""
        text = repr(sorted((path, hashlib.sha256(body).hexdigest()) for path, body in files.items()))
        commit = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        repository = self.repositories.setdefault(repo, Repository())
        repository.commits[commit] = files
        repository.revisions[revision] = commit
        for path, body in files.items():
            if is_large(path):
                self.cdn.files[hashlib.sha256(body).hexdigest()] = body
        return commit

    @property
    def downloaded_bytes(self) -> int:
        return sum(self.sent_bytes.values()) + sum(self.cdn.sent_bytes.values())


def is_large(path: str) -> bool:
    """Whether the hub keeps the file apart, by its SHA-256, as git-lfs and Xet do."""
    return PurePosixPath(path).suffix in LARGE


class _HubHandler(OriginHandler):
    @property
    def hub(self) -> Hub:
        return cast("Hub", self.server)

    do_POST = OriginHandler.do_GET  # noqa: N815 - the name is the base class's

    @override
    def route(self, seen: Seen, fault: Fault) -> None:
        if found := API.fullmatch(seen.path):
            self._api(seen, found)
        elif found := RESOLVE.fullmatch(seen.path):
            self._resolve(seen, found, fault)
        else:
            self._refuse(404, "", "Not found")

    def _api(self, seen: Seen, found: re.Match[str]) -> None:
        repository = self._repository(seen, found["repo"])
        if repository is None:
            return
        name, _, folder = unquote(found["rest"] or "main").partition("/")
        if found["verb"] == "revision":
            name, folder = unquote(found["rest"]), ""
        commit = self._commit(repository, name)
        if commit is None:
            return
        match found["verb"]:
            case "tree":
                self._json(self._tree(repository, commit, folder))
            case "paths-info":
                wanted = self._wanted_paths()
                self._json([each for each in self._tree(repository, commit, "") if each["path"] in wanted])
            case _:
                self._json(self._info(found["repo"], repository, commit, blobs="blobs=" in seen.query))

    def _resolve(self, seen: Seen, found: re.Match[str], fault: Fault) -> None:
        repository = self._repository(seen, found["repo"])
        if repository is None or self._gated(seen, repository):
            return
        commit = self._commit(repository, found["revision"])
        if commit is None:
            return
        body = repository.commits[commit].get(found["path"])
        headers = {"X-Repo-Commit": commit}
        if body is None:
            self._refuse(404, "EntryNotFound", "Entry not found", headers)
        elif is_large(found["path"]):
            digest = hashlib.sha256(body).hexdigest()
            headers |= {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{digest}"'}
            headers["Location"] = f"{self.hub.cdn.url}/{digest}?{SIGNATURE}"
            self.answer(HTTPStatus.FOUND, headers=headers)
        else:
            self.send_file(body, fault, headers | {"ETag": f'"{git_oid(body)}"'})

    def _repository(self, seen: Seen, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if repository and repository.token in {None, given}:
            return repository
        # As the Hub does: to a stranger a private repository and one that is not there look the same.
        self._refuse(404 if given else 401, *NOT_FOUND)
        return None

    def _gated(self, seen: Seen, repository: Repository) -> bool:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if repository.gated_for in {None, given}:
            return False
        self._refuse(403 if given else 401, "GatedRepo", "Access to this model is restricted")
        return True

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.revisions.get(revision, revision)
        if commit in repository.commits:
            return commit
        self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _info(self, name: str, repository: Repository, commit: str, *, blobs: bool) -> dict[str, Any]:
        files = self._tree(repository, commit, "")
        siblings = [
            {"rfilename": each["path"]}
            | (
                {"size": each["size"], "blobId": each["oid"]}
                | ({"lfs": each["lfs"]} if "lfs" in each else {})
                if blobs
                else {}
            )
            for each in files
        ]
        return {
            "id": name,
            "modelId": name,
            "author": name.split("/", maxsplit=1)[0],
            "sha": commit,
            "siblings": siblings,
            "private": repository.token is not None,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "gated": "manual" if repository.gated_for else False,
            "tags": [],
            "lastModified": None,
        }

    def _tree(self, repository: Repository, commit: str, folder: str) -> list[dict[str, Any]]:
        listed = []
        for path, body in sorted(repository.commits[commit].items()):
            if not path.startswith(f"{folder}/" if folder else ""):
                continue
            size = repository.sizes.get(path, len(body))
            entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": git_oid(body)}
            if is_large(path):
                digest = hashlib.sha256(body).hexdigest()
                entry["lfs"] = {"oid": digest, "sha256": digest, "size": size, "pointerSize": 134}
            listed.append(entry)
        return listed

    def _wanted_paths(self) -> set[str]:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        return set(json.loads(text)["paths"])

    def _json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), kind="application/json")

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(
            status,
            json.dumps({"error": message}).encode(),
            headers={**said, **(headers or {})},
            kind="application/json",
        )


def git_oid(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()

"""Gets a registry to answer: the challenge of its first refusal, tokens, logins of a docker config."""

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.web import RefusedError, Web

from .reference import DOCKER_HUB, Reference

T = TypeVar("T")
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_DOCKER_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """What a docker config holds for a registry; an identity token stands in for a password."""

    user: str
    password: str
    identity_token: str = ""

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Registry:
    """One repository of a registry. Safe for several threads."""

    def __init__(self, reference: Reference, base: str, login: Login | None, web: Web) -> None:
        self._reference = reference
        self._login = login
        self._web = web
        self._lock = threading.Lock()
        self._authorization = ""
        self.address = f"{base}/{reference.repository}"

    def ask(self, call: Callable[[Mapping[str, str]], T]) -> T:
        """`call` with the headers that authorize it, and again with new ones where the registry asks."""
        used = self._authorization
        try:
            return call(_headers(used))
        except RefusedError as refused:
            challenge = refused.headers.get("WWW-Authenticate", "")
            if refused.status != 401 or not challenge:
                raise
            with self._lock:
                if self._authorization == used:
                    self._authorization = self._answer(challenge)
        return call(_headers(self._authorization))

    def _answer(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._login:
            return self._login.header
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in parameters:
            raise self._unauthorized(
                "it wants a login" if scheme.lower() == "basic" else f"it wants {scheme!r}"
            )
        return f"Bearer {self._token(parameters)}"

    def _token(self, parameters: Mapping[str, str]) -> str:
        realm = parameters["realm"]
        query = {"scope": f"repository:{self._reference.repository}:pull"}
        if service := parameters.get("service"):
            query["service"] = service
        try:
            said = (
                self._post(realm, query)
                if self._login and self._login.identity_token
                else self._get(realm, query)
            )
        except RefusedError as refused:
            raise self._unauthorized(f"its token service answered {refused.status}") from refused
        token = said.get("token") or said.get("access_token")
        if not isinstance(token, str):
            raise self._unauthorized("its token service gave no token")
        return token

    def _get(self, realm: str, query: Mapping[str, str]) -> dict[str, Any]:
        headers = {"Authorization": self._login.header} if self._login else {}
        return _json(self._web.text(self._web.with_query(realm, query), secret_headers=headers)[0])

    def _post(self, realm: str, query: Mapping[str, str]) -> dict[str, Any]:
        token = self._login.identity_token if self._login else ""
        form = {
            **query,
            "grant_type": "refresh_token",
            "client_id": "roundhouse-loader",
            "refresh_token": token,
        }
        return _json(self._web.post(realm, form))

    def _unauthorized(self, what: str) -> LoadError:
        hint = "check the login in `pullSecretRef`" if self._login else "give a login by `pullSecretRef`"
        where = f"the registry {self._reference.registry!r} refuses {self._reference.repository!r}"
        return LoadError(Reason.UNAUTHORIZED, f"{where}: {what}; {hint}")


def find_login(config: str | None, reference: Reference) -> Login | None:
    """The login for the reference of a docker config's text; the most precise entry wins."""
    if config is None:
        return None
    try:
        auths = json.loads(config)["auths"]
        entries = {_bare(key): value for key, value in auths.items()}
        return _login(entries, reference)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise LoadError(
            Reason.INVALID_SOURCE,
            "the Secret of `pullSecretRef` holds no docker config under .dockerconfigjson "
            f"({type(error).__name__}); make it with `kubectl create secret docker-registry`",
        ) from error


def _login(entries: Mapping[str, Any], reference: Reference) -> Login | None:
    path = reference.repository
    names = [reference.registry]
    while path:
        names.insert(len(names) - 1, f"{reference.registry}/{path}")
        path = path.rpartition("/")[0]
    if reference.registry == DOCKER_HUB:
        names += [_bare(key) for key in _DOCKER_HUB_KEYS]
    entry = next((entries[name] for name in names if name in entries), None)
    if entry is None:
        return None
    user, password = entry.get("username", ""), entry.get("password", "")
    if auth := entry.get("auth"):
        user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
    return Login(user, password, entry.get("identitytoken", ""))


def _bare(key: str) -> str:
    return re.sub(r"^https?://", "", key).removesuffix("/").removesuffix("/v1").removesuffix("/v2")


def _headers(authorization: str) -> dict[str, str]:
    return {"Authorization": authorization} if authorization else {}


def _json(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}

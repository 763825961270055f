"""API keys of a test's gateway: how they get to it, and when it knows them."""

import dataclasses
from base64 import b64encode
from collections.abc import Mapping

from roundhouse_api.keys import Grant, Issued, Scope, issue
from tests.conformance.gateway.world import World
from tests.support.waiting import wait_until

KEYS = "keys"
"""The namespace of their Secrets."""


def put(world: World, name: str, data: Mapping[str, str]) -> None:
    encoded = {field: b64encode(value.encode()).decode() for field, value in data.items()}
    metadata = {"name": name, "namespace": KEYS}
    world.api.put("secrets", {"metadata": metadata, "type": "roundhouse.dev/api-key", "data": encoded})


def wait_for_key(world: World, issued: Issued, status: int = 200) -> None:
    header = {"Authorization": f"Bearer {issued.text}"}
    wait_until(
        lambda: world.gateway.request("GET", "/metrics", headers=header).status == status,
        seconds=10,
        what=f"the key is answered {status}",
        every=0.02,
    )


def put_known(world: World, name: str, issued: Issued) -> None:
    """Puts the key and waits until the gateway lets it in."""
    put(world, name, issued.data)
    wait_for_key(world, issued)


def issue_to(world: World, grant: Grant) -> str:
    """Another key, known to the gateway."""
    issued = issue(dataclasses.replace(grant, scopes=grant.scopes | {Scope.USAGE}))
    put_known(world, f"key-{issued.data['id']}", issued)
    return issued.text


def hand_to_owner(world: World, owner: Issued | None = None) -> Issued:
    """The gateway's requests carry a key from now on that may do everything: this one, or a new one.

    It stays where the world is cleared between tests.
    """
    owner = owner or issue(Grant(name="owner"))
    put_known(world, "owner", owner)
    world.gateway.key = world.owner_key = owner.text
    return owner

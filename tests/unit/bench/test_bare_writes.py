"""The bare client makes the writes that the operator makes first, and all of them."""

import json

from roundhouse_api.model import Manifest
from tests.bench.burst import templates_of_first_writes


def live(uid: str) -> Manifest:
    return {"metadata": {"name": "one", "uid": uid}}


def test_both_children_and_both_statuses() -> None:
    of_variant, of_engine = templates_of_first_writes("models")
    writes = [write.filled((live("e"), live("v"))) for write in (*of_variant, *of_engine)]
    assert [write.path.split("?")[0] for write in writes] == [
        "/api/v1/namespaces/models/services/one",
        "/apis/apps/v1/namespaces/models/deployments/one",
        "/apis/roundhouse.dev/v1alpha1/namespaces/models/modelvariants/one/status",
        "/apis/roundhouse.dev/v1alpha1/namespaces/models/engines/one/status",
    ]
    service, deployment, variant, engine = (json.loads(write.body) for write in writes)
    assert [each["metadata"]["ownerReferences"][0]["uid"] for each in (service, deployment)] == ["v", "v"]
    assert [each["metadata"]["uid"] for each in (variant, engine)] == ["v", "e"]
    assert variant["status"]["publishedNames"] == ["one"]
    assert variant["status"]["backends"][0]["name"] == "one"
    assert variant["status"]["engine"]["uid"] == "e"
    assert engine["status"]["variants"] == 1

"""Every resource of the table before a real API server and before the models: both agree on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from operator import attrgetter

import pytest
from kubernetes.client import ApiException
from pydantic import ValidationError

from roundhouse_api.crdgen import build_crd
from roundhouse_api.kinds import KINDS
from roundhouse_api.model import problems
from tests.conformance.api.table import Case, Shelf, cases, examples, refusal


def test_names_are_distinct_within_a_kind() -> None:
    """All of them are created in one namespace, and who applies two examples has two variants."""
    named = Counter(
        (manifest["kind"], manifest["metadata"]["name"])
        for case in [*cases("valid"), *examples()]
        for manifest in case.manifests
    )
    assert [name for name, times in named.items() if times > 1] == []


@pytest.mark.parametrize("case", [*cases("valid"), *examples()], ids=attrgetter("id"))
def test_the_api_server_stores_a_valid_resource_whole(case: Case, shelf: Shelf) -> None:
    stored = shelf.create(case.kind, case.manifest)
    if "status" in case.manifest:
        shelf.replace(case.kind, {**stored, "status": case.manifest["status"]}, status=True)
    found = shelf.get(case.kind, case.manifest["metadata"]["name"])
    assert list(lost("", case.manifest, found)) == []
    given, read = (case.kind.model.model_validate(each).model_dump() for each in (case.manifest, found))
    assert read["spec"] == given["spec"], "the models' defaults are not the schema's"
    assert read["status"] == given["status"]


@pytest.mark.parametrize("case", [*cases("valid"), *examples()], ids=attrgetter("id"))
def test_the_models_keep_a_valid_resource_whole(case: Case) -> None:
    resource = case.kind.model.model_validate(case.manifest)
    written = resource.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert list(lost("", numbers_as_text(case.manifest), numbers_as_text(written))) == []
    assert case.kind.model.model_validate(written) == resource


@pytest.mark.parametrize("case", cases("invalid"), ids=attrgetter("id"))
def test_the_api_server_refuses_an_invalid_resource(case: Case, shelf: Shelf) -> None:
    with pytest.raises(ApiException) as caught:
        offer(case, shelf)
    assert caught.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
    message = refusal(caught.value)
    assert case.expect in message
    assert case.field in message


@pytest.mark.parametrize("case", cases("invalid"), ids=attrgetter("id"))
def test_the_models_refuse_an_invalid_resource(case: Case) -> None:
    with pytest.raises(ValidationError) as caught:
        case.kind.model.model_validate(case.manifest)
    said = problems(caught.value)
    assert any(touches(problem, case.field) for problem in said), said
    if any(case.expect in message for message in rule_messages()):
        assert any(case.expect in problem for problem in said), said


@pytest.mark.parametrize("case", cases("updates"), ids=attrgetter("id"))
def test_the_api_server_refuses_a_change_of_what_is_immutable(case: Case, shelf: Shelf) -> None:
    before, after = case.manifests
    stored = shelf.create(case.kind, before)
    with pytest.raises(ApiException) as caught:
        shelf.replace(case.kind, {**stored, "spec": after["spec"]})
    assert caught.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
    message = refusal(caught.value)
    assert f"{case.field}: " in message
    assert case.expect in message


def test_the_table_is_large_and_shows_every_rule_broken() -> None:
    refused = [*cases("invalid"), *cases("updates")]
    assert len(refused) + len(cases("valid")) >= 100
    unshown = {message for message in rule_messages() if not any(case.expect in message for case in refused)}
    assert unshown == set()


def offer(case: Case, shelf: Shelf) -> None:
    """The spec as a user creates it, or the status as the operator writes it."""
    status = case.manifest.get("status")
    stored = shelf.create(case.kind, case.manifest, dry_run=status is None)
    if status is not None:
        shelf.replace(case.kind, {**stored, "status": status}, status=True)


def lost(path: str, given: object, found: object) -> Iterator[tuple[str, object, object]]:
    """Where something that was given is missing or changed; what was added is no loss."""
    if isinstance(given, dict) and isinstance(found, dict):
        for key, value in given.items():
            yield from lost(f"{path}.{key}", value, found.get(key))
    elif isinstance(given, list) and isinstance(found, list) and len(given) == len(found):
        for index, (left, right) in enumerate(zip(given, found, strict=True)):
            yield from lost(f"{path}[{index}]", left, right)
    elif given != found:
        yield path, given, found


def numbers_as_text(value: object) -> object:
    """With whole numbers as text, as which the models keep a quantity."""
    if isinstance(value, dict):
        return {key: numbers_as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [numbers_as_text(each) for each in value]
    return str(value) if type(value) is int else value


def touches(problem: str, field: str) -> bool:
    """Whether a problem is about the field, or about the list or object that it stands in."""
    path = problem.partition(": ")[0]
    return field in problem or field.startswith((f"{path}[", f"{path}."))


@cache
def rule_messages() -> frozenset[str]:
    """The messages of all CEL rules."""

    def messages(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from messages(child)

    return frozenset(message for kind in KINDS for message in messages(build_crd(kind)))

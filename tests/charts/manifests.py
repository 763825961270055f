"""Questions that tests ask of rendered manifests. Pure."""

from .helm import Manifest


def of_kind(manifests: list[Manifest], kind: str, part: str = "") -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind and part in each["metadata"]["name"]]


def only(manifests: list[Manifest], kind: str, part: str = "") -> Manifest:
    [found] = of_kind(manifests, kind, part)
    return found


def container(manifests: list[Manifest], component: str) -> Manifest:
    [found] = only(manifests, "Deployment", component)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(manifests: list[Manifest], component: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(manifests, component)["env"] if "value" in each}


def grants(role: Manifest) -> set[str]:
    """`verb group/resource` of each thing that a role allows."""
    return {
        f"{verb} {group}/{resource}"
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

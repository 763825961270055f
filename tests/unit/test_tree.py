"""What must hold for the tree itself: layout, sizes, links, and names that scripts rely on."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from roundhouse_api.names import API_VERSION
from roundhouse_api.v1alpha1 import Engine, ModelVariant
from tests.requirements import LIST, marks, read_list

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    *("operator", "crds", "engine-images", "gateway", "charts", "tests", "docs", "examples"),
    *("pyproject.toml", "uv.lock", "Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
}
OF_THE_GATEWAY = {
    *(f"S0-{number}" for number in (1, 2, 3, *range(5, 22))),
    *(f"S1-{number}" for number in (*range(1, 7), 8, 9, 10, 12, *range(16, 20), 22, 23, 27, 29)),
    *(f"S2-{number}" for number in (11, 13, 22, *range(24, 29))),
}
"""Required behaviours that are its to show."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would track, and that exist."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    return sorted(path for name in set(listed) if name and (path := ROOT / name).is_file())


def test_operator_folder_is_no_package() -> None:
    assert not (ROOT / "operator/__init__.py").exists(), "it would shadow the standard library's `operator`"


def test_top_level_holds_only_what_belongs_there() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_readme_is_short_and_starts_with_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    first_block = "\n".join(lines).split("```sh")[1]
    assert [line.split("#")[0].strip() for line in first_block.strip().splitlines()[:2]] == [
        "make demo",
        "make test",
    ]


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_no_python_file_is_past_its_size() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in tracked("*.py")}
    assert {name: size for name, size in sizes.items() if size > 500} == {}


def test_no_file_names_a_place_of_one_machine() -> None:
    folders = ("/work" + "/", "/farm" + "/", "/root" + "/")
    found = []
    for path in tracked():
        if path.suffix in {".lock", ".sum"}:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        found += [f"{name}: {f}" for f in folders if f" {f}" in text or f'"{f}' in text]
    assert found == []


def test_each_requirement_that_a_test_names_is_in_the_list() -> None:
    required = read_list(LIST.read_text())
    named = [one for path in tracked("tests/*.py") for one in marks(path.read_text(), path.name)]
    assert [one for one in named if one.number not in required] == []
    assert OF_THE_GATEWAY - {one.number for one in named} == set(), "no test names these any more"


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts/roundhouse/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    for member in (
        "sdk",
        "pocketsphinx",
        "faster-whisper",
        "llama-cpp",
        "transformers",
        "musicgen",
        "loader",
    ):
        text = (ROOT / f"engine-images/{member}/pyproject.toml").read_text()
        assert tomllib.loads(text)["project"]["version"] == version


def test_every_make_target_has_its_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.search(r"\.PHONY: (.*?)\n\n", makefile, flags=re.DOTALL)
    assert named is not None
    phony = set(named.group(1).replace("\\\n", " ").split()) - {"lint", "types", "layers"}
    assert phony == set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize("example", tracked("examples/*.yaml"), ids=lambda p: p.name)
def test_examples_are_valid(example: Path) -> None:
    kinds = {"Engine": Engine, "ModelVariant": ModelVariant}
    for document in yaml.safe_load_all(example.read_text()):
        if document["apiVersion"] == API_VERSION:  # others are shown to an API server
            kinds[document["kind"]].model_validate(document)

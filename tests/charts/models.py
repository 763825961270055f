"""Makes docs/reference/catalogue.md, the models that the chart knows, from the chart's files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Entry = dict[str, Any]

HEAD = """\
# The catalogue

Made from `charts/roundhouse/files/catalogue` by `make gen`. Change that instead. How to run a model, change
one or add your own: [guide](../guides/catalogue.md).

`catalogue.run` takes any of these names, or the repository where no other model has it. Memory is what is
shown to people, of a GPU. Engines of `-gpu` and those of vLLM need one; those of `-any` take one where there
is one; all others run on CPUs.
"""
STAGES = {
    "Transcribe": "Speech",
    "Embed": "Embeddings",
    "Rerank": "Ranking",
    "Chat": "Chat",
    "Music": "Music",
}


def catalogue_page(folder: Path) -> str:
    """The page, of the files in `charts/roundhouse/files/catalogue`."""
    engines: Mapping[str, Entry] = yaml.safe_load((folder / "engines.yaml").read_text())
    entries = list(_entries(folder))
    served = [each for each in entries if each.get("enabled", True)]
    parts = [HEAD, _unpinned(served)]
    for stage, title in STAGES.items():
        rows = [_row(each, engines) for each in served if engines[each["engine"]]["stage"] == stage]
        parts += [
            f"## {title}\n",
            "| model | repository | engine | languages | memory | licence |",
            "|---|---|---|---|---|---|",
        ]
        parts += [*rows, ""]
    parts += [
        "## Not served\n",
        "Known, and refused in `catalogue.run` until an `engine` of yours is laid over them.\n",
        "| model | why |",
        "|---|---|",
        *(f"| `{_name(each)}` | {each['reason']} |" for each in entries if not each.get("enabled", True)),
    ]
    return "\n".join(parts) + "\n"


def _unpinned(served: list[Entry]) -> str:
    """Which weights may be others tomorrow."""
    names = [
        f"`{_name(each)}`"
        for each in served
        if "repo" in each and "revision" not in each.get("source", {}).get("huggingFace", {})
    ]
    if not names:
        return "Weights are fetched at the commit that their entry names.\n"
    return (
        "Weights are fetched at the commit that their entry names. These name none, because none could be\n"
        f"verified: {', '.join(names)}.\n"
        "They come as the repository's `main` is when they are fetched first;\n"
        "[a `revision`](../guides/catalogue.md#change-a-model) laid over the entry pins them.\n"
    )


def _entries(folder: Path) -> Iterator[Entry]:
    for path in sorted((folder / "models").glob("*.yaml")):
        yield from yaml.safe_load(path.read_text())["models"]


def _row(entry: Entry, engines: Mapping[str, Entry]) -> str:
    engine = engines[entry["engine"]]
    can = {**engine.get("capabilities", {}), **entry.get("capabilities", {})}
    memory = entry.get("hardware", {}).get("gpu", {}).get("displayMemory", "").replace("G", " GB")
    licence = entry.get("license", "not verified") + (", gated" if entry.get("gated") else "")
    also = [
        *entry.get("aliases", ()),
        *(each for each in entry.get("alternateNames", ()) if each != entry["repo"]),
    ]
    names = f"`{_name(entry)}`" + "".join(f", `{each}`" for each in also)
    told = f"{names}: {entry['description']}"
    cells = (
        told,
        _repository(entry),
        f"`{entry['engine']}`",
        _languages(can.get("languages")),
        memory,
        licence,
    )
    return f"| {' | '.join(cells)} |"


def _repository(entry: Entry) -> str:
    if "repo" not in entry:
        return "in the image"
    return "the same" if entry["repo"] == _name(entry) else f"`{entry['repo']}`"


def _name(entry: Entry) -> str:
    return str(entry.get("name") or entry["repo"])


def _languages(codes: list[str] | None) -> str:
    if not codes:
        return ""
    return ", ".join(codes) if len(codes) < 3 else str(len(codes))

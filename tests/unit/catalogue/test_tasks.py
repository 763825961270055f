"""One argument of an image says which of its handlers serves, and the catalogue's engines give one it has."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.unit.catalogue.shown import shown

MODULES = {"transformers": "roundhouse_transformers", "llama-cpp": "roundhouse_llama_cpp"}


def tasks_of(image: str) -> set[str]:
    """What the image says that it serves, to who asks for something else."""
    asked = [sys.executable, "-m", MODULES[image], "nothing-of-the-kind"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = re.search(r"serves (.+) here, not 'nothing-of-the-kind'", done.stderr)
    assert said, done.stderr
    return set(re.split(r", | or ", said[1]))


@pytest.mark.req("S2-10")
def test_an_image_is_told_its_handler_by_one_argument_and_names_those_there_are() -> None:
    assert {"chat", "embeddings"} <= tasks_of("transformers") & tasks_of("llama-cpp")


@pytest.mark.parametrize("image", MODULES)
def test_an_argument_that_means_nothing_is_refused(image: str) -> None:
    asked = [sys.executable, "-m", MODULES[image], "chat", "--fast"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert "'--fast' after 'chat' means nothing" in done.stderr


@pytest.mark.req("S2-10")
def test_each_engine_of_the_catalogue_asks_for_a_handler_that_its_image_has() -> None:
    known = tasks_of("transformers")
    asked = {}
    for one in shown().values():
        workload = one.engine.spec.workload
        assert workload
        if "/transformers:" in workload.image:
            asked[one.engine.metadata.name] = workload.args
    assert len(asked) == 7
    assert {name: args for name, args in asked.items() if len(args) != 1 or args[0] not in known} == {}

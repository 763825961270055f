"""Engines that listen live, as real processes behind a gateway of a test."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.engine.running import LIVE, POCKETSPHINX, Engine, running
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.keys import KEYS, hand_to_owner
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.support.waiting import wait_until

SPEECH = Variant(
    "sphinx",
    served_name="pocketsphinx-en",
    aliases=("live",),
    languages=("en",),
    streaming="Native",
    interfaces=("Batch", "Realtime"),
    model_name="english",
)
NOISE = Variant(
    "noise", streaming="Chunked", interfaces=("Batch", "Realtime"), model_name="m", real_time_factor="0.9"
)


@dataclass
class Live:
    """Starts engines, which end with the block."""

    folder: Path
    stack: ExitStack
    started: list[Engine] = field(default_factory=list)

    def start(self, kind: tuple[str, ...], model: str, **variables: str) -> Engine:
        folder = self.folder / f"engine-{len(self.started)}"
        folder.mkdir()
        made = self.stack.enter_context(running(kind, folder, MODELS=model, **variables))
        self.started.append(made)
        return made

    def sphinx(self, sessions: int = 2) -> Engine:
        return self.start(POCKETSPHINX, "english", ROUNDHOUSE_SESSIONS=str(sessions))

    def noise(self, **variables: str) -> Engine:
        return self.start(LIVE, "m", **variables)


@contextmanager
def live(folder: Path) -> Iterator[Live]:
    with ExitStack() as stack:
        yield Live(folder, stack)


def until_all_places(engine: Engine) -> None:
    """Each place for a session has its process."""
    lines = [json.loads(line) for line in engine.logged.splitlines() if line.startswith("{")]
    wanted = next(line["sessions"] for line in lines if line["message"] == "listening")
    engine.until_ready()

    def places() -> bool:
        (model,) = engine.get("/v1/models").json["data"]
        return bool(model["sessions"]["capacity"] == wanted)

    wait_until(places, seconds=60, what=f"{wanted} places are there", every=0.05)


def publish(world: World, variant: Variant, *engines: Engine) -> None:
    """The variant with these ready engines behind it."""
    for each in engines:
        until_all_places(each)
    world.run(variant, *(each.port for each in engines))


@contextmanager
def guarded_speech(thread: LoopThread, folder: Path) -> Iterator[tuple[World, Live]]:
    """A gateway that asks for keys, before pocketsphinx, with an owner's key; other engines as one likes."""
    with live(folder) as engines, a_world(thread, folder, {"KEYS_NAMESPACE": KEYS}) as world:
        hand_to_owner(world)
        publish(world, SPEECH, engines.sphinx())
        yield world, engines

"""What changes beside the load: engines die and others come, models, endpoints and keys come and go."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from roundhouse_api.keys import Grant, issue
from tests.conformance.engine.running import Engine
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import KEYS, put, wait_for_key
from tests.conformance.gateway.live import Live, publish
from tests.conformance.gateway.manifests import NAMESPACE, Variant, slice_of
from tests.conformance.gateway.soak.caller import Keys
from tests.conformance.gateway.soak.engine import EngineProcess
from tests.support.store import Store
from tests.support.waiting import wait_until

SPEECH: Final = Variant("whisper", languages=None)
VLLM: Final = Variant("voxtral", dialect="VLLM", languages=None, engine="vllm", word_timestamps="None")
CHAT: Final = Variant("qwen", stage="Chat", languages=None)
EMBED: Final = Variant("embedder", stage="Embed", languages=None)
RERANK: Final = Variant("ranker", stage="Rerank", languages=None)
SLEEPER: Final = Variant("sleeper", stage="Chat", languages=None, hold_seconds=4)
NARROW: Final = Variant("narrow", stage="Chat", languages=None, hold_seconds=4, max_in_flight=2)
LISTENER: Final = Variant("live", streaming="Chunked", interfaces=("Realtime",), model_name="m")
SERVED: Final = (SPEECH, VLLM, CHAT, EMBED, RERANK, NARROW)
GUESTS: Final = 4
LIMITED: Final = Grant(name="limited", requests_per_minute=1500, max_concurrent=4)


@dataclass
class Churn:
    """Who is there; `step` changes one thing."""

    world: World
    live: Live
    store: Store
    chance: random.Random
    keys: Keys = field(default_factory=lambda: Keys("", "", ""))
    engines: list[EngineProcess] = field(default_factory=list)
    listener: Engine | None = None
    guests: list[str] = field(default_factory=list)
    made: int = 0
    awake: bool = False
    rotated: str = ""

    def begin(self) -> None:
        world = self.world
        owner = issue(Grant(name="owner"))
        put(world, "owner", owner.data)
        wait_for_key(world, owner)
        self.keys.owner = world.gateway.key = owner.text
        limited = issue(LIMITED)
        put(world, "limited", limited.data)
        wait_for_key(world, limited)
        self.keys.limited = limited.text
        self.rotate_key()
        self.engines = [EngineProcess.start() for _ in range(2)]
        world.publish(SLEEPER.asleep())
        for variant in SERVED:
            self._slices(variant)
            world.publish(variant)
            world.wait_for(variant.id, "running")
        self.replace_listener()

    def end(self) -> None:
        for each in self.engines:
            each.kill()

    @property
    def acts(self) -> Mapping[Callable[[], None], int]:
        return {
            self.replace_engine: 2,
            self.lose_endpoint: 4,
            self.wake_or_sleep: 6,
            self.add_or_remove_guest: 6,
            self.rotate_key: 3,
            self.edit_model: 3,
            self.lose_watches: 1,
        }

    def step(self) -> None:
        acts = self.acts
        self.chance.choices(list(acts), list(acts.values()))[0]()

    def replace_engine(self) -> None:
        """One dies in the midst of its answers; the cluster hears of it a little later."""
        new = EngineProcess.start()
        self.engines.pop(0).kill()
        self.engines.append(new)
        self._all_slices()

    def replace_listener(self) -> None:
        if self.listener is not None:
            self.listener.process.kill()
            self.listener.process.wait()
        self.listener = self.live.noise(ROUNDHOUSE_SESSIONS="4")
        publish(self.world, LISTENER, self.listener)

    def restart_store(self) -> None:
        """Limits are counted by the gateway alone meanwhile."""
        self.store.stop()
        self.store.start()

    def lose_endpoint(self) -> None:
        variant = self.chance.choice(SERVED)
        number = self.chance.randrange(2)
        self.world.api.delete("endpointslices", NAMESPACE, f"{variant.name}-{number}")
        self._slices(variant)

    def wake_or_sleep(self) -> None:
        self.awake = not self.awake
        if self.awake:
            self._slices(SLEEPER)
            self.world.publish(replace(SLEEPER))
        else:
            for number in range(2):
                self.world.api.delete("endpointslices", NAMESPACE, f"{SLEEPER.name}-{number}")
            self.world.publish(SLEEPER.asleep())

    def add_or_remove_guest(self) -> None:
        """Each under a name that nobody has had."""
        if len(self.guests) >= GUESTS:
            self._remove(self.guests.pop(0))
            return
        self.made += 1
        guest = replace(CHAT, name=f"guest-{self.made}", engine=f"engine-of-guest-{self.made}")
        self._slices(guest)
        self.world.publish(guest)
        self.guests.append(guest.id)

    def rotate_key(self) -> None:
        """The new one is good before the old one goes; who has that still is refused."""
        new = issue(Grant(name="rotating"))
        put(self.world, f"rotating-{self.made}-{new.data['id']}", new.data)
        wait_for_key(self.world, new)
        self.keys.rotating = new.text
        if self.rotated:
            self.world.api.delete("secrets", KEYS, self.rotated)
        self.rotated = f"rotating-{self.made}-{new.data['id']}"

    def edit_model(self) -> None:
        variant = self.chance.choice(SERVED)
        self.world.publish(replace(variant, aliases=(f"alias-{self.chance.randrange(1000)}",)))

    def lose_watches(self) -> None:
        """All is listed anew."""
        self.world.api.forget_history()

    def settle(self) -> None:
        """As it was at the beginning: awake, no guests."""
        while self.guests:
            self._remove(self.guests.pop())
        if not self.awake:
            self.wake_or_sleep()
        names = {each.id for each in (*SERVED, SLEEPER, LISTENER)}

        def as_at_the_beginning() -> bool:
            listed = {each["id"] for each in self.world.gateway.get("/v1/models").json["data"]}
            assert listed == names, f"missing: {names - listed}, left over: {listed - names}"
            return True

        wait_until(
            as_at_the_beginning, seconds=30, what="the models of the beginning are there, and no other"
        )

    def _remove(self, guest: str) -> None:
        for plural, name in (
            ("modelvariants", guest),
            ("endpointslices", f"{guest}-0"),
            ("endpointslices", f"{guest}-1"),
            ("engines", f"engine-of-{guest}"),
        ):
            self.world.api.delete(plural, NAMESPACE, name)

    def _all_slices(self) -> None:
        for variant in (*SERVED, *([SLEEPER] if self.awake else [])):
            self._slices(variant)
        for name in self.guests:
            self._slices(replace(CHAT, name=name))

    def _slices(self, variant: Variant) -> None:
        for number, each in enumerate(self.engines):
            self.world.api.put("endpointslices", slice_of(variant.name, each.port, suffix=str(number)))

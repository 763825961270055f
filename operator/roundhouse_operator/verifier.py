"""Runs the tests of variants on their pods, and sets the readiness gate by what came of them.

What is to be asked, of whom and how it is judged is pure, in `core.verification`. Here ConfigMaps are read
by name, engines are asked, a few at a time, and the outcome is put where the next pass finds it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.names import READINESS_GATE_VERIFIED
from roundhouse_api.v1alpha1 import Stage, Verification
from roundhouse_operator.asking import Asker, BusyError, SilentError
from roundhouse_operator.cache import Cache
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.kinds import CONFIG_MAP, POD, Key
from roundhouse_operator.core.observed import Invalid, World
from roundhouse_operator.core.verification import asks, known_answers, probes
from roundhouse_operator.core.verification.exam import Gate
from roundhouse_operator.core.verification.inputs import read_input
from roundhouse_operator.core.verification.proof import ExamFacts, Input, Proof, Ref
from roundhouse_operator.errands import Errands
from roundhouse_operator.errors import ClusterError, NotFoundError, RefusedError
from roundhouse_operator.incidents import incident_of
from roundhouse_operator.logs import concerning

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
"""How old what is known of a ConfigMap may be: they are read by name and never watched."""


class _ElsewhereError(Exception):
    """The pod is gone, or what it was to be asked is not what is asked now."""


@dataclass(slots=True)
class _Job:
    """What one pod is to be asked, and what it has answered. Recordings are not held while it waits."""

    key: Key
    intent: Intent
    verification: Verification
    revision: str
    inputs: Mapping[Ref, Input]
    pod: str
    ip: str
    slow: bool = False
    since: float | None = None
    """When the answer that is waited for was asked for first."""
    results: list[known_answers.Judged] = field(default_factory=list)
    probed: int = 0
    shown: set[str] = field(default_factory=set)

    @property
    def namespace(self) -> str:
        return self.key.namespace


@dataclass(slots=True)
class _State:
    looked_at: float = 0.0
    running: _Job | None = None
    slow: bool = False
    asked_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    facts: ExamFacts = field(default_factory=ExamFacts)


class Verifier:
    """`again` brings a key to a pass. Nothing is kept of a variant that has no tests.

    `waited` is told how long a pod stood in line before it was asked.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        again: Callable[[Key], None],
        asker: Asker,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._again = again
        self._asker = asker
        self._states: dict[Key, _State] = {}
        self._errands: Errands[_Job] = Errands(self._work, waited)

    async def look(self, world: World) -> World:
        """With what is known of its tests; reads their ConfigMaps where that is a while ago."""
        spec, key = world.variant.spec, world.variant.key
        if isinstance(spec, Invalid) or spec.verification is None:
            self.forget(key)
            return world
        state = self._states.setdefault(key, _State())
        wanted = {(ref.name, ref.key) for ref in known_answers.references(spec.verification)}
        now = asyncio.get_running_loop().time()
        if wanted != set(state.facts.inputs) or now - state.looked_at >= LOOK_SECONDS:
            contents = await self._read(key.namespace, wanted)
            state.facts = replace(state.facts, inputs={ref: known for ref, (known, _) in contents.items()})
            state.looked_at = now
            if wanted:
                self._later(key, state)
        self._cache.note_exam(key, state.facts)
        return replace(world, exam=state.facts)

    def forget(self, key: Key) -> None:
        if state := self._states.pop(key, None):
            self._cache.note_exam(key, None)
            if state.timer:
                state.timer.cancel()

    async def go_on(self, world: World, decision: Decision) -> None:
        """Sets the gates that have been decided on, and has a pod asked if one is to be."""
        exam, intent, key = decision.exam, decision.intent, world.variant.key
        state, verification = self._states.get(key), intent.variant.verification if intent else None
        if exam is None or intent is None or verification is None or state is None:
            return
        for gate in exam.gates:
            await self._set(key, gate)
        now = asyncio.get_running_loop().time()
        pod, under_way = exam.candidate, state.running
        if pod is None or (under_way and under_way.revision == exam.revision and self._stands(under_way)):
            return
        if not under_way and exam.trouble and now - state.asked_at < LOOK_SECONDS:
            return
        state.asked_at = now
        inputs = state.facts.inputs
        job = _Job(key, intent, verification, exam.revision, inputs, pod.name, pod.ip, slow=state.slow)
        state.running = job
        self._errands.add(job)

    async def run(self) -> None:
        """Works on what `go_on` has found, until it is cancelled."""
        await self._errands.run()

    async def _work(self, job: _Job) -> None:
        concerning(job.key)
        proof, silent = None, ""
        try:
            proof = await self._examine(job)
        except _ElsewhereError:
            self._drop(job)
            return
        except BusyError as error:
            if self._put_back(job, error):
                return
            silent = f"There was no answer within {self._asker.patience_seconds:.0f} s: {error}"
        except (SilentError, ClusterError) as error:
            silent = str(error)
        except Exception as error:
            incident = incident_of(error)
            silent, told = incident.message, {"reason": Reason.INTERNAL_ERROR}
            logger.exception("%s: incident %s", job.key, incident.number, extra=told)
        self._note(job, proof, silent)

    def _stands(self, job: _Job) -> bool:
        """Whether the pod that it asks is there, and nothing else is to be asked of the variant by now.

        An address that was a pod's may be another's a moment later, who would answer as well.
        """
        state, world = self._states.get(job.key), self._cache.world(job.key)
        if world is None or state is None or state.running is not job:
            return False
        return any((pod.name, pod.ip) == (job.pod, job.ip) and not pod.ending for pod in world.pods)

    def _drop(self, job: _Job) -> None:
        state = self._states.get(job.key)
        if state and state.running is job:
            state.running = None
            self._again(job.key)

    def _put_back(self, job: _Job, busy: BusyError) -> bool:
        """Whether it is asked again in a while: until then it stands in nobody's way."""
        loop = asyncio.get_running_loop()
        if job.key not in self._states or job.since is None:
            return False
        if loop.time() + busy.seconds > job.since + self._asker.patience_seconds:
            job.slow = busy.slow
            return False
        job.slow = busy.slow
        loop.call_later(busy.seconds, self._errands.add, job)
        return True

    def _note(self, job: _Job, proof: Proof | None, silent: str) -> None:
        state = self._states.get(job.key)
        if state is None or state.running is not job:
            return
        state.running, state.slow = None, job.slow
        state.facts = replace(
            state.facts,
            proof=proof or state.facts.proof,
            silent=(job.revision, silent) if silent else ("", ""),
        )
        if silent:
            told = {"reason": Reason.TEST_UNANSWERED}
            logger.warning("%s: not verified: %s", job.key, silent, extra=told)
            self._later(job.key, state)
        self._again(job.key)

    async def _ask(self, job: _Job, ask: asks.Ask) -> asks.Answer:
        if not self._stands(job):
            raise _ElsewhereError
        if job.since is None:
            job.since = asyncio.get_running_loop().time()
        answer = await self._asker.ask(job.ip, job.intent.engine.api.port, ask)
        if not self._stands(job):
            raise _ElsewhereError
        job.since, job.slow = None, False
        return answer

    async def _examine(self, job: _Job) -> Proof:
        """Asks what is left to be asked, one after the other: a new pod may take one request at a time."""
        engine = asks.Engine(job.intent.engine, job.intent.merged.model_name)
        stage = job.intent.engine.stage
        read = await self._read(job.key.namespace, job.inputs)
        if {ref: known for ref, (known, _) in read.items()} != job.inputs:
            raise SilentError("The inputs of the tests were changed meanwhile")
        contents = {ref: content for ref, (_, content) in read.items()}
        for test in job.verification.tests[len(job.results) :]:
            answer = await self._ask(job, known_answers.ask(test, engine, contents))
            job.results.append(known_answers.judge(test, stage, answer, contents))
        capabilities = job.intent.merged.capabilities
        probing = [*probes.probes(capabilities, engine, _recording(job.verification, stage, contents))]
        for probe in probing[job.probed :]:
            answer = await self._ask(job, probe.ask)
            if answer.good and probe.shown(answer):
                job.shown.add(probe.feature)
            job.probed += 1
        claimed = probes.claims(capabilities)
        proof = Proof(
            job.revision,
            tuple(sorted(job.results, key=lambda one: one.name)),
            verified=tuple(one for one in claimed if one in job.shown),
            unproven=tuple(one for one in claimed if one not in job.shown),
            pod=job.pod,
        )
        reason = Reason.VERIFIED if proof.passed else Reason.VERIFICATION_FAILED
        logger.info("%s: pod %s was tested", job.key, job.pod, extra={"reason": reason})
        return proof

    async def _read(self, namespace: str, wanted: Iterable[Ref]) -> dict[Ref, tuple[Input, bytes]]:
        """Each ConfigMap once. Only hashes are kept of what is read."""
        maps: dict[str, Manifest | str] = {}
        found: dict[Ref, tuple[Input, bytes]] = {}
        for name, key in sorted(wanted):
            if name not in maps:
                maps[name] = await self._config_map(namespace, name)
            found[name, key] = read_input(name, key, maps[name])
        return found

    async def _config_map(self, namespace: str, name: str) -> Manifest | str:
        try:
            return await self._cluster.get(CONFIG_MAP, namespace, name)
        except NotFoundError:
            return f"ConfigMap {name!r} does not exist"
        except RefusedError as error:
            return f"ConfigMap {name!r} cannot be read: {error.message}"

    async def _set(self, key: Key, gate: Gate) -> None:
        condition = {
            "type": READINESS_GATE_VERIFIED,
            "status": str(gate.passed),
            "reason": gate.reason.value,
            "message": gate.message,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            answer = await self._cluster.patch_pod_condition(key.namespace, gate.pod.name, condition)
        except NotFoundError:
            return
        self._cache.upsert(POD, answer)

    def _later(self, key: Key, state: _State) -> None:
        if state.timer:
            state.timer.cancel()
        state.timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._again, key)


def _recording(verification: Verification, stage: Stage, contents: Mapping[Ref, bytes]) -> bytes | None:
    """Speech to show the claims of an engine that hears: that of the first test."""
    if stage is not Stage.TRANSCRIBE or not verification.tests:
        return None
    ref = verification.tests[0].input_config_map_ref
    return contents[ref.name, ref.key]

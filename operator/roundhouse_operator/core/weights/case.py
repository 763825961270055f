"""One variant whose weights a Job fetches, and what there is of the store that it wants."""

from __future__ import annotations

from dataclasses import dataclass

from roundhouse_api.v1alpha1 import DownloadPolicy
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.observed import Pod, Store, World
from roundhouse_operator.core.weights.asked import Ask, AskedKind
from roundhouse_operator.core.weights.key import credential
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob


@dataclass(frozen=True, slots=True)
class Case:
    world: World
    intent: Intent
    store: Store
    asks: frozenset[Ask]

    @property
    def jobs(self) -> list[LoaderJob]:
        """Those that this variant may have, oldest first; under Never one that others have is as good."""
        fetching = [job for job in self.store.jobs if job.purpose is JobPurpose.FETCH]
        never = self.intent.delivery.policy is DownloadPolicy.NEVER
        if never and not any(job.phase is not JobPhase.FAILED for job in fetching):
            fetching = [job for job in self.store.jobs if job.purpose is JobPurpose.CHECK]
        return sorted(fetching, key=lambda job: job.attempt)

    @property
    def purpose(self) -> JobPurpose:
        never = self.intent.delivery.policy is DownloadPolicy.NEVER
        return JobPurpose.CHECK if never else JobPurpose.FETCH

    @property
    def claim_uid(self) -> str:
        """Empty for a claim of somebody else, which is not watched."""
        return self.store.claim.uid if self.intent.delivery.own and self.store.claim else ""

    @property
    def secret_version(self) -> str:
        secret = credential(self.intent.delivery.source)
        answer = self.world.answers.get(Ask(AskedKind.SECRET, secret.secret)) if secret else None
        return answer.version if answer else ""

    def pods(self, job: LoaderJob) -> list[Pod]:
        """Of that Job, newest first."""
        own = [pod for pod in self.store.pods if pod.job == job.name]
        return sorted(own, key=lambda pod: (pod.created, pod.name), reverse=True)

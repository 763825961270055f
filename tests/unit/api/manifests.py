"""The least that each kind needs, to be added to."""

from __future__ import annotations

from typing import Any

from roundhouse_api.v1alpha1 import Engine, Manifest, ModelVariant, SelectionPolicy


def engine(**spec: Any) -> Engine:
    least: Manifest = {
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1.0.0",
        "workload": {"image": "example.org/engine:1"},
        "serving": {"type": "Dedicated"},
        "hardware": {"gpu": {"mode": "None"}},
    }
    return Engine.model_validate({"metadata": {"name": "engine"}, "spec": {**least, **spec}})


def variant(**spec: Any) -> ModelVariant:
    least: Manifest = {"engineRef": {"name": "engine"}, "source": {"type": "Builtin"}}
    return ModelVariant.model_validate({"metadata": {"name": "variant"}, "spec": {**least, **spec}})


def policy(**spec: Any) -> SelectionPolicy:
    return SelectionPolicy.model_validate(
        {"metadata": {"name": "policy"}, "spec": {"strategy": "Priority", **spec}}
    )

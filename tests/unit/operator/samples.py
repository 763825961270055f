"""Resources that the operator's tests begin with: the least that works, to be added to."""

from __future__ import annotations

from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_api.names import API_VERSION


def engine(name: str = "kws", **spec: Any) -> Manifest:
    """A Dedicated engine of images built on the SDK, without a GPU."""
    least: Manifest = {
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1.0.0",
        "workload": {"image": "example.org/kws:1"},
        "serving": {"type": "Dedicated"},
        "hardware": {"gpu": {"mode": "None"}},
    }
    return _resource("Engine", name, {**least, **spec})


def upstream(name: str = "elsewhere", url: str = "https://speech.example.org/v1", **spec: Any) -> Manifest:
    """An engine that lives elsewhere."""
    least: Manifest = {
        "type": "Upstream",
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1.0.0",
        "upstream": {"baseURL": url},
        "api": {"dialect": "OpenAI"},
    }
    return _resource("Engine", name, {**least, **spec})


def variant(name: str = "kws-en", on: str = "kws", **spec: Any) -> Manifest:
    """A variant of which the engine's image carries the model. `engineRef=None` leaves it without a name."""
    least: Manifest = {"engineRef": {"name": on}, "source": {"type": "Builtin"}}
    merged = {**least, **spec}
    return _resource("ModelVariant", name, {key: value for key, value in merged.items() if value is not None})


def adapter(name: str = "lora", **spec: Any) -> Manifest:
    least: Manifest = {"baseModel": "x", "source": {"type": "Builtin"}}
    return _resource("Adapter", name, {**least, **spec})


def policy(name: str = "cheap", **spec: Any) -> Manifest:
    return _resource("SelectionPolicy", name, {"strategy": "FreeFirst", **spec})


def _resource(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}

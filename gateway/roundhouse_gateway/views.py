"""What `/v1/models` and `/v1/engines` show of a model and of an engine, as plain data.

Names are those of the wire: lower case, and booleans where the API has enums. How they become lists is left
to `bodies`.
"""

from typing import Any

from roundhouse_api.enums import Interface, Streaming, WordTimestamps
from roundhouse_api.selection import ANY_LANGUAGE
from roundhouse_api.v1alpha1 import Capabilities, Performance, Quantity, RealTimeFactor
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.records import EngineRecord

GIGABYTE = 10**9

Item = dict[str, Any]


def stage_word(entry: Entry) -> str | None:
    return entry.model.stage and entry.model.stage.lower()


def model_item(entry: Entry) -> Item:
    """An item of the list: OpenAI's keys and Roundhouse's besides."""
    model, record = entry.model, entry.record
    return {
        "id": model.id,
        "object": "model",
        "created": record.created,
        "owned_by": record.texts.owned_by or "local",
        "name": record.texts.display_name or model.id,
        "description": record.texts.description,
        "stage": stage_word(entry),
        "status": model.status,
        "tier": model.speed_tier and model.speed_tier.lower(),
        "capabilities": _capabilities(entry),
    }


def model_detail(entry: Entry) -> Item:
    """One model, by any of its names: the item, its engine, and why it is in the state it is in."""
    model, record = entry.model, entry.record
    return {
        **model_item(entry),
        "engine": model.engine,
        "engine_model": model.engine_model or None,
        "version": record.effective.version,
        "license": record.texts.license,
        "alternate_names": list(model.alternate_names),
        "aliases": list(model.aliases),
        "request_defaults": dict(record.text.defaults),
        "resource_hints": {
            "vram_gb": _gigabytes(record.effective.display_memory or record.effective.min_memory),
            "speed_factor": model.speed_factor,
        },
        "hardware": _hardware(entry),
        "performance": _performance(entry),
        "ready": {
            "status": record.ready.status.lower(),
            "reason": record.ready.reason,
            "message": record.ready.message,
        },
    }


def engine_item(entry: Entry) -> Item:
    """An item of `engines`: one for each id that a client may ask for, running or not."""
    return {
        "id": entry.model.id,
        "stage": stage_word(entry),
        "version": entry.record.effective.version,
        "status": entry.model.status,
        "capabilities": _capabilities(entry),
        "hardware": _hardware(entry),
        "performance": _performance(entry),
    }


def runtime_item(engine: EngineRecord) -> Item:
    """An item of `runtimes`: an Engine resource."""
    return {
        "name": engine.name,
        "type": engine.spec.type.lower(),
        "stage": engine.spec.stage.lower(),
        "version": engine.spec.version,
        "interfaces": sorted(each.lower() for each in engine.spec.interfaces),
        "serving": engine.spec.serving and engine.spec.serving.type.lower(),
        "variants": engine.variants,
        "ready_variants": engine.ready_variants,
        "ready": {
            "status": engine.ready.status.lower(),
            "reason": engine.ready.reason,
            "message": engine.ready.message,
        },
    }


def _capabilities(entry: Entry) -> Item:
    """`streaming` and `word_timestamps` are true only where a client can really have them natively."""
    model, claimed = entry.model, entry.record.effective.capabilities or Capabilities()
    realtime = Interface.REALTIME in model.interfaces
    return {
        "languages": claimed.languages and sorted(claimed.languages),
        "language_count": _language_count(claimed),
        "streaming": realtime and model.streaming is not Streaming.NONE,
        "word_timestamps": model.word_timestamps is WordTimestamps.NATIVE,
        "word_timestamps_source": model.word_timestamps.lower(),
        "interfaces": sorted(each.lower() for each in model.interfaces),
    }


def _language_count(claimed: Capabilities) -> int | None:
    if claimed.language_count is not None:
        return claimed.language_count
    if claimed.languages is None or ANY_LANGUAGE in claimed.languages:
        return None
    return len(claimed.languages)


def _hardware(entry: Entry) -> Item:
    effective = entry.record.effective
    return {
        "gpu": effective.gpu_mode and effective.gpu_mode.lower(),
        "min_memory_gb": _gigabytes(effective.min_memory),
        "vram_gb": _gigabytes(effective.display_memory or effective.min_memory),
        "device": entry.record.device and entry.record.device.lower(),
    }


def _performance(entry: Entry) -> Item:
    figures = entry.record.effective.performance or Performance()
    factors = figures.real_time_factor or RealTimeFactor()
    return {
        "rtf_gpu": _number(factors.gpu),
        "rtf_cpu": _number(factors.cpu),
        "speed_factor": entry.model.speed_factor,
        "tokens_per_second": _number(figures.tokens_per_second),
        "latency_ms": figures.latency_milliseconds,
    }


def _gigabytes(amount: Quantity | None) -> float | None:
    """None, too, for an amount that no number of JSON holds: `1e400` is a quantity."""
    try:
        return None if amount is None else round(float(amount.exact / GIGABYTE), 2)
    except OverflowError:
        return None


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)

"""The closed sets of the API. Values are CamelCase; the gateway lower-cases them for its wire format.

The exceptions are names that come from outside: audio encodings and Kubernetes' own constants.
"""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """What an engine does with a request."""

    TRANSCRIBE = "Transcribe"
    ALIGN = "Align"
    DIARIZE = "Diarize"
    EMBED = "Embed"
    CHAT = "Chat"
    RERANK = "Rerank"
    MUSIC = "Music"
    SPEAK = "Speak"


class Interface(StrEnum):
    BATCH = "Batch"
    REALTIME = "Realtime"


class EngineType(StrEnum):
    WORKLOAD = "Workload"
    UPSTREAM = "Upstream"


class EngineKind(StrEnum):
    """The kinds that `engineRef` may name; room for a cluster-wide one."""

    ENGINE = "Engine"


class Dialect(StrEnum):
    """The manners of an image: its routes, health paths and parameters."""

    ROUNDHOUSE = "Roundhouse"
    OPENAI = "OpenAI"
    VLLM = "VLLM"
    TEI = "TEI"
    LLAMA_CPP = "LlamaCpp"
    SPEACHES = "Speaches"


class RouteName(StrEnum):
    TRANSCRIPTIONS = "Transcriptions"
    TRANSLATIONS = "Translations"
    REALTIME = "Realtime"
    EMBEDDINGS = "Embeddings"
    CHAT = "Chat"
    COMPLETIONS = "Completions"
    RERANK = "Rerank"
    MUSIC = "Music"
    SPEECH = "Speech"
    MODELS = "Models"


class ServingType(StrEnum):
    DEDICATED = "Dedicated"
    SHARED = "Shared"
    EXCLUSIVE = "Exclusive"


class Streaming(StrEnum):
    NONE = "None"
    CHUNKED = "Chunked"
    NATIVE = "Native"


class WordTimestamps(StrEnum):
    NONE = "None"
    ALIGNMENT = "Alignment"
    NATIVE = "Native"


class Feature(StrEnum):
    DIARIZATION = "Diarization"
    TRANSLATION = "Translation"
    VISION = "Vision"
    STRUCTURED_OUTPUTS = "StructuredOutputs"
    ADAPTERS = "Adapters"
    TOOLS = "Tools"
    PROMPT = "Prompt"
    PUNCTUATION = "Punctuation"
    LANGUAGE_DETECTION = "LanguageDetection"


class Encoding(StrEnum):
    """Raw audio, by the names that the field uses."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"


class Pooling(StrEnum):
    MEAN = "Mean"
    LAST_TOKEN = "LastToken"  # noqa: S105 - tokens of a text
    CLS = "CLS"


class GPUMode(StrEnum):
    REQUIRED = "Required"
    OPTIONAL = "Optional"
    NONE = "None"


class Device(StrEnum):
    GPU = "GPU"
    CPU = "CPU"


class AllocationType(StrEnum):
    AUTO = "Auto"
    DEVICE_PLUGIN = "DevicePlugin"
    MIG = "MIG"
    DRA = "DRA"


class AllocationChosen(StrEnum):
    """How a pod got its GPU: `AllocationType` without the question."""

    DEVICE_PLUGIN = "DevicePlugin"
    MIG = "MIG"
    DRA = "DRA"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class ScalingMode(StrEnum):
    MANUAL = "Manual"
    DEMAND = "Demand"


class SourceType(StrEnum):
    HUGGING_FACE = "HuggingFace"
    S3 = "S3"
    GCS = "GCS"
    OCI = "OCI"
    HTTP = "HTTP"
    PVC = "PVC"
    BUILTIN = "Builtin"


class WeightFormat(StrEnum):
    CTRANSLATE2 = "CTranslate2"
    SAFETENSORS = "Safetensors"
    PYTORCH = "PyTorch"
    NEMO = "NeMo"
    GGUF = "GGUF"
    ONNX = "ONNX"
    SPHINX = "Sphinx"
    OTHER = "Other"


class Allowance(StrEnum):
    """A risk that the author of a variant takes knowingly."""

    REMOTE_CODE = "RemoteCode"
    UNSAFE_FORMATS = "UnsafeFormats"


class DownloadPolicy(StrEnum):
    AUTO = "Auto"
    NEVER = "Never"
    SKIP = "Skip"


class ImagePullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class CacheType(StrEnum):
    EPHEMERAL = "Ephemeral"
    PVC = "PVC"
    NODE = "Node"
    IMAGE_VOLUME = "ImageVolume"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class SpeedTier(StrEnum):
    FAST = "Fast"
    BALANCED = "Balanced"
    ACCURATE = "Accurate"


class CostTier(StrEnum):
    PREMIUM = "Premium"
    BUDGET = "Budget"
    FALLBACK = "Fallback"


class PricingType(StrEnum):
    FREE = "Free"
    METERED = "Metered"


class RolloutPolicy(StrEnum):
    AUTO = "Auto"
    SURGE = "Surge"
    RECREATE = "Recreate"


class RolloutStrategy(StrEnum):
    """What a rollout does: `RolloutPolicy` once it is decided."""

    SURGE = "Surge"
    RECREATE = "Recreate"


class RolloutTurn(StrEnum):
    """Where a variant stands while a change of its Engine reaches the variants one after another."""

    WAITING = "Waiting"
    TAKEN = "Taken"


class LoadBalancingType(StrEnum):
    LEAST_IN_FLIGHT = "LeastInFlight"
    PREFIX_HASH = "PrefixHash"


class FallbackTrigger(StrEnum):
    UNAVAILABLE = "Unavailable"
    RATE_LIMITED = "RateLimited"
    TIMEOUT = "Timeout"
    ERROR = "Error"


class VerificationPolicy(StrEnum):
    REQUIRED = "Required"
    ADVISORY = "Advisory"


class VerificationResult(StrEnum):
    PASSED = "Passed"
    FAILED = "Failed"
    NOT_RUN = "NotRun"


class BackendType(StrEnum):
    SERVICE = "Service"
    UPSTREAM = "Upstream"


class Verdict(StrEnum):
    CHOSEN = "Chosen"
    ELIGIBLE = "Eligible"
    REJECTED = "Rejected"


class Strategy(StrEnum):
    PRIORITY = "Priority"
    FREE_FIRST = "FreeFirst"
    FASTEST = "Fastest"
    CHEAPEST = "Cheapest"
    WEIGHTED = "Weighted"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"

"""Names a handler class so that a child process can find it again, also when it stands in the main script."""

import importlib
import importlib.util
import sys
from types import ModuleType

from roundhouse_engine.handler import Handler

_SCRIPT = "roundhouse_engine_script"
_CHILD = "roundhouse_engine.child"


def reference(handler: type[Handler]) -> str:
    """`module:Class`, or `/path/script.py:Class` for a class of a script that was started by its path."""
    module = handler.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        # `python -m package` runs package/__main__.py; its spec knows the name that can be imported.
        module = main.__spec__.name if main.__spec__ is not None else str(main.__file__)
    return f"{module}:{handler.__qualname__}"


def resolve(reference: str) -> type[Handler]:
    """The class that `reference` named; raises `ImportError` or `TypeError`."""
    module_name, _, name = reference.rpartition(":")
    module = _script(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
    handler = getattr(module, name, None)
    if not isinstance(handler, type) or not issubclass(handler, Handler):
        raise TypeError(f"{module_name!r} has no engine class {name!r} at its top level.")
    return handler


def in_child() -> bool:
    """Whether this process computes for an engine that is served by another: it looks for a class alone."""
    started = sys.modules["__main__"].__spec__
    return started is not None and started.name == _CHILD


def _script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_SCRIPT, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path!r} cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_SCRIPT] = module
    spec.loader.exec_module(module)
    return module

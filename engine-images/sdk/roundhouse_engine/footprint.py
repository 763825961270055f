"""What the models of one pool take of the memory, as their slots have told."""

from collections.abc import Sequence

from roundhouse_engine.slot import Slot


class Footprint:
    """Of all `slots`; `separate`: each has its own copy of the models."""

    def __init__(self, slots: Sequence[Slot], names: Sequence[str], *, separate: bool) -> None:
        self._slots = slots
        self._names = names
        self._separate = separate

    @property
    def copies(self) -> int:
        return len(self._slots) if self._separate else 1

    @property
    def whole(self) -> bool:
        """Whether every slot is up, so that nothing more will come but by requests."""
        return all(slot.up for slot in self._slots)

    @property
    def held_bytes(self) -> int:
        """Memory of the GPU where the handler tells, else that of the processes."""
        told = [each for each in map(self.vram_bytes, self._names) if each is not None]
        return sum(told) if told else sum(slot.ram_bytes for slot in self._slots)

    def vram_bytes(self, model: str) -> int | None:
        """The most GPU memory that the model held so far; None where nothing tells."""
        told = [slot.vram_bytes[model] for slot in self._slots if model in slot.vram_bytes]
        if not told:
            return None
        return sum(told) if self._separate else max(told)

    def memory_bytes(self) -> int | None:
        """Of the one model; None until it was measured, or where several share the processes."""
        return self.held_bytes if self.whole and len(self._names) == 1 else None

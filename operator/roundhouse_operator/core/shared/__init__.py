"""Engines that hold several variants in one pod (`Shared`), or one of several (`Exclusive`).

The Engine owns the pods. `members` says what each variant asks for, `replicas` what is there, `packing` (the
module beside this package) who is to be where; `moves` takes the next step towards that, so that nothing that
is served is dropped on the way; `marks` go onto the pods, and `seats` is what each variant's status then
tells. `arrange` joins them.
"""

from __future__ import annotations

from roundhouse_operator.core.shared.arrange import Arrangement, arrange
from roundhouse_operator.core.shared.marks import PodPatch
from roundhouse_operator.core.shared.world import EngineWorld

__all__ = ["Arrangement", "EngineWorld", "PodPatch", "arrange"]

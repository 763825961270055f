"""The pins of the layer that torch is in: what of uv.lock its groups need, in files of their own.

So the layer is built anew when torch or one of its own libraries changes, and not when any other line of the
lock does.
"""

import subprocess
from pathlib import Path

from .definitions import ROOT
from .host import find_uv
from .store import ImageError

PINS = {group: ROOT / f"engine-images/base/{group}.txt" for group in ("torch", "cuda")}
"""By the group; what is in the second goes into layers for GPUs only."""
HEAD = "# Written by `make gen` from the group {} of uv.lock; never edited by hand.\n"
LEFT_OUT = ("setuptools",)
"""For those who compile extensions of torch."""
NEVER = ("sys_platform == 'never'", "sys_platform == 'emscripten'")


def group_pins(group: str, root: Path = ROOT) -> str:
    """The text of a group's file as the lock is now; ImageError where uv cannot read it."""
    command = [
        str(find_uv()),
        "export",
        "--quiet",
        "--frozen",
        "--no-emit-workspace",
        f"--only-group={group}",
    ]
    command += ["--no-annotate", "--no-header", *(f"--no-emit-package={name}" for name in LEFT_OUT)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"the pins of {group} cannot be read from the lock: {done.stderr.strip()}")
    each = done.stdout.replace("\\\n", "\0").splitlines()
    kept = (line for line in each if not any(never in line for never in NEVER))
    return HEAD.format(group) + "".join(f"{line}\n" for line in kept).replace("\0", "\\\n")

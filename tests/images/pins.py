"""The pins of the layer that torch is in: what of uv.lock its group needs, in a file of their own.

So the layer is built anew when torch or one of its own libraries changes, and not when any other line of the
lock does.
"""

import subprocess
from pathlib import Path

from .definitions import ROOT
from .host import find_uv
from .store import ImageError

PINS = ROOT / "engine-images/base/torch.txt"
HEAD = "# Written by `make gen` from the group torch of uv.lock; never edited by hand.\n"
LEFT_OUT = ("setuptools",)
"""For those who compile extensions of torch."""
NEVER = "sys_platform == 'never'"


def torch_pins(root: Path = ROOT) -> str:
    """The text of the file as the lock is now; ImageError where uv cannot read it."""
    command = [str(find_uv()), "export", "--quiet", "--frozen", "--no-emit-workspace", "--only-group=torch"]
    command += ["--no-annotate", "--no-header", *(f"--no-emit-package={name}" for name in LEFT_OUT)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"the pins of torch cannot be read from the lock: {done.stderr.strip()}")
    each = done.stdout.replace("\\\n", "\0").splitlines()
    return HEAD + "".join(f"{line}\n" for line in each if NEVER not in line).replace("\0", "\\\n")

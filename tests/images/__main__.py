"""`python -m tests.images`: build the container images, push them, say where they are, or write pins."""

import argparse
import sys

from .build import build_images, image_folders
from .definitions import IMAGES
from .pins import PINS, group_pins
from .sizes import MOST_MB_ON_GPUS, check_sizes
from .store import ImageError


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "pins":
        _pins(check=options.check)
        return
    known = [image.name for image in IMAGES if image.on_gpus or not options.gpu]
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no image {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [image for image in IMAGES if image.name in (options.names or known)]
    try:
        if options.command == "build":
            folders = build_images(
                chosen, push=options.push, refresh_base=options.refresh_base, gpu=options.gpu, say=_say
            )
            if options.gpu:
                check_sizes(folders, MOST_MB_ON_GPUS)
        else:
            print(*image_folders(chosen, gpu=options.gpu).values(), sep="\n")
    except ImageError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what is built stays, run the same command again to go on")


def _pins(*, check: bool) -> None:
    for group, file in PINS.items():
        pins = group_pins(group)
        if not check:
            file.write_text(pins)
        elif file.read_text() != pins:
            sys.exit(f"{file} is not what uv.lock says: run `make gen`")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what changed into folders in the cache")
    build.add_argument(
        "--push", metavar="REGISTRY", help="push each image to REGISTRY/<name>:<version> as well"
    )
    build.add_argument("--refresh-base", action="store_true", help="make or fetch the base anew first")
    folders = commands.add_parser("folders", help="print where this checkout's images are")
    pins = commands.add_parser("pins", help="write the pins of the layer that torch is in, from uv.lock")
    pins.add_argument("--check", action="store_true", help="write nothing, and fail where they differ")
    for command in (build, folders):
        command.add_argument("--gpu", action="store_true", help="those for GPUs, tagged <version>-cuda")
        command.add_argument("names", metavar="NAME", nargs="*", help="an image; none named: all of them")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

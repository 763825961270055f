#!/bin/sh
# Fills /opt/roundhouse, the only thing that a final stage copies: a virtual environment with the locked
# dependencies (hashes checked) and this repository's own packages, compiled, without tests and type stubs.
#
#   install.sh PROJECT… -- EXPORT-OPTION…
#   install.sh --pins FILE…
#
# PROJECT are the folders whose packages go in; EXPORT-OPTION say which part of uv.lock they need. FILE is such a
# part that has been exported. Where the stage starts from an image that has packages, what is left in
# /opt/roundhouse in the end is what came to them: a final stage that starts from the same image copies that.
set -eu

sources=$PWD
target=/opt/roundhouse
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/root/.cache/uv
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

projects=""
pins=/tmp/requirements.txt
if [ "$1" = "--pins" ]; then
    shift
    cat "$@" >"$pins"
else
    while [ "$1" != "--" ]; do
        projects="$projects $1"
        shift
    done
    shift
    # The lock is turned into a list of pins first, because `uv sync` would fetch from the addresses in the lock,
    # and an index that mirrors PyPI would never be asked. setuptools compiles, and torch alone asks for it.
    uv export --quiet --frozen --no-emit-workspace --no-dev --output-file /tmp/locked.txt "$@" >/dev/null
    # What no Linux installs has no hash, and a line without one is an error.
    awk -v pins="$pins" '/^[^ #]/ { out = /^setuptools==/ ? "/tmp/compiler.txt" : /== .emscripten./ ? "/dev/null" : pins }
        out { print > out }' /tmp/locked.txt
fi

: >/tmp/shared-files
: >/tmp/shared-packages
if [ -d "$target" ]; then
    find "$target" ! -type d >/tmp/shared-files
    uv pip freeze --quiet --python "$target" >/tmp/shared-packages
else
    uv venv --quiet --python "$(command -v python3)" "$target"
fi
# Wheels alone, but for one package of NeMo's that has none: a few Python files, built by the locked setuptools.
touch /tmp/compiler.txt
uv pip install --python "$target" --require-hashes --no-deps --only-binary :all: --no-binary antlr4-python3-runtime \
    --build-constraints /tmp/compiler.txt -r "$pins"

for project in $projects; do
    uv build --quiet --wheel --out-dir /tmp/wheels "$project"
done
if [ -n "$projects" ]; then
    uv pip install --python "$target" --no-deps --no-index /tmp/wheels/*.whl
fi

uv pip freeze --quiet --python "$target" >/tmp/packages
changed=$(grep -v -x -F -f /tmp/packages /tmp/shared-packages || true)
if [ -n "$changed" ]; then
    echo "these packages of the image below would be replaced, so its layer could not be shared:" "$changed" >&2
    exit 1
fi

cd "$target"/lib/python3*/site-packages
find . -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
find . -name '*.pyi' ! -path './librosa/*' -delete  # which reads its own to know what it holds
# Headers, static libraries and sources are for compilers, of which no image has one. numba's for GPUs goes to the driver's.
find . -type f ! -path './numba/cuda/*' \( -name '*.h' -o -name '*.hpp' -o -name '*.cuh' -o -name '*.a' -o -name '*.c' \
    -o -name '*.cc' -o -name '*.cpp' -o -name '*.cu' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' \) -delete

# botocore describes four hundred services of Amazon: those stay that S3 and a pod's identity need.
if [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +
fi

# An image for CPUs has torch without the 4 GB of CUDA that its own libraries are linked against. One for GPUs has them
# all, and nothing in the place of the driver, which is mounted where a GPU is and must not be hidden.
# Headers and compilers are for those who build on torch.
if [ -d torch/lib ] && ! [ -s /tmp/shared-files ]; then
    [ -d nvidia/cu13/lib ] || python3 "$sources/engine-images/base/torch_without_cuda.py" "$PWD"
    rm -rf torch/include torch/share torch/bin/protoc*
    rm -f torch/lib/libgfortran.so.5  # comes with torch, and none of its libraries asks for it
    rm -f torch/testing/_internal/py312_intrinsics.py  # in the syntax of a newer Python, for torch's own tests
fi

# For those who link programs for GPUs on the spot, or spread one over several GPUs by a library that torch never asks for.
if [ -d nvidia ]; then
    rm -rf nvidia/*/include nvidia/cu13/cccl nvidia/cu13/lib/libcusolverMg.so.*
    find nvidia -name '*.bc' -delete
fi

# Tables for debuggers, and for CPUs the programs for GPUs, are more than half of many libraries, and nobody reads them.
python3 "$sources/engine-images/base/lighter.py" "$PWD"

# numba's threads by a library of Intel's, without which it has two other kinds.
rm -f numba/np/ufunc/tbbpool.*.so

# A wheel may count on a library that the base has not: better known now than in a pod that crashes.
# What torch brings along is loaded before those that are linked against it, and scipy's own by who knows their folder.
# NVIDIA's packages bring parts that only some machines can load; the driver comes with the GPU.
libraries="$PWD/torch/lib:$PWD/scipy.libs$(find "$PWD/nvidia" -type d -name lib -printf ':%p' 2>/dev/null || true)"
missing=$(find . -path ./nvidia -prune -o -name '*.so*' -type f -exec env LD_LIBRARY_PATH="$libraries" ldd {} + 2>/dev/null |
    grep 'not found' | grep -v -E 'lib(cuda|nvidia-ml)\.so\.1 ' | sort -u || true)
if [ -n "$missing" ]; then
    echo "the base image lacks libraries that the installed packages need:" "$missing" >&2
    exit 1
fi

# Once only in all images that share it.
tr '\n' '\0' </tmp/shared-files | xargs -0 -r rm -f
find "$target" -depth -type d -empty -delete

# Bytecode that is never compared with its source: the layer's time stamps need not survive, and a pod with a
# read-only root file system starts without compiling anything.
compile() { python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"; }

# The Kubernetes client's 1,600 generated models and calls are the bulk of the image: bytecode alone is enough.
for generated in kubernetes/client kubernetes/aio/client; do
    if [ -d "$generated" ]; then
        compile -b "$generated/models" "$generated/api"
        find "$generated/models" "$generated/api" -name '*.py' -delete
    fi
done
compile .

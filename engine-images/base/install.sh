#!/bin/sh
# Fills /opt/roundhouse, the only thing that a final stage copies: a virtual environment with the locked
# dependencies (hashes checked) and this repository's own packages, compiled, without tests and type stubs.
#
#   install.sh PROJECT… -- EXPORT-OPTION…
#
# PROJECT are the folders whose packages go in; EXPORT-OPTION say which part of uv.lock they need.
set -eu

projects=""
while [ "$1" != "--" ]; do
    projects="$projects $1"
    shift
done
shift

sources=$PWD
target=/opt/roundhouse
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_CACHE_DIR=/root/.cache/uv
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

uv venv --quiet --python "$(command -v python3)" "$target"

# The lock is turned into a list of pins first, because `uv sync` would fetch from the addresses in the lock,
# and an index that mirrors PyPI would never be asked.
uv export --quiet --frozen --no-emit-workspace --no-dev --output-file /tmp/requirements.txt "$@" >/dev/null
uv pip install --python "$target" --require-hashes --no-deps --no-build -r /tmp/requirements.txt

for project in $projects; do
    uv build --quiet --wheel --out-dir /tmp/wheels "$project"
done
uv pip install --python "$target" --no-deps --no-index /tmp/wheels/*.whl

cd "$target"/lib/python3*/site-packages
find . -type d -name tests -prune -exec rm -r {} +
find . -name '*.pyi' -delete

# botocore describes four hundred services of Amazon: those stay that S3 and a pod's identity need.
if [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +
fi

# An image for CPUs has torch without the 4 GB of CUDA that its own libraries are linked against.
if [ -d torch/lib ]; then
    python3 "$sources/engine-images/base/torch_without_cuda.py" "$PWD"
fi

# A wheel may count on a library that the base has not: better known now than in a pod that crashes.
missing=$(find . -name '*.so*' -type f -exec ldd {} + 2>/dev/null | grep 'not found' | sort -u || true)
if [ -n "$missing" ]; then
    echo "the base image lacks libraries that the installed packages need:" "$missing" >&2
    exit 1
fi

# Bytecode that is never compared with its source: the layer's time stamps need not survive, and a pod with a
# read-only root file system starts without compiling anything.
compile() { "$target/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"; }

# The Kubernetes client's 1,600 generated models and calls are the bulk of the image: bytecode alone is enough.
for generated in kubernetes/client kubernetes/aio/client; do
    if [ -d "$generated" ]; then
        compile -b "$generated/models" "$generated/api"
        find "$generated/models" "$generated/api" -name '*.py' -delete
    fi
done
compile .

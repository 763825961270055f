#!/bin/sh
# Takes the wheel of the locked version that computes on GPUs, from the index that WHEELS names, in the place of
# PyPI's, and looks whether it is one and finds its libraries. With WHEEL_SHA256 no other wheel is taken.
set -eu

export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_LINK_MODE=copy UV_CACHE_DIR=/root/.cache/uv
wheel=$(uv pip freeze --quiet --python /opt/roundhouse | grep '^xllamacpp==')
echo "$wheel${WHEEL_SHA256:+ --hash=sha256:$WHEEL_SHA256}" >/tmp/wheel.txt
[ -n "$WHEEL_SHA256" ] || echo "the wheel of $wheel is not checked: WHEEL_SHA256 names no digest"
uv pip install --python /opt/roundhouse --no-deps --only-binary :all: --reinstall --compile-bytecode \
    --default-index "$WHEELS" ${WHEEL_SHA256:+--require-hashes} -r /tmp/wheel.txt || {
    echo "asked $WHEELS for the wheel $wheel, and did not get it; WHEELS names another index" >&2
    exit 1
}

cd /opt/roundhouse/lib/python3*/site-packages
grep -rqs ggml_cuda_init xllamacpp* || {
    echo "the wheel of $wheel at $WHEELS computes on no GPU: WHEELS must name an index of those for CUDA" >&2
    exit 1
}
missing=$(find xllamacpp* -name '*.so*' -type f -exec env LD_LIBRARY_PATH="$PWD/nvidia/cu13/lib" ldd {} + |
    grep 'not found' | grep -v 'libcuda\.so\.1 ' | sort -u || true)
if [ -n "$missing" ]; then
    echo "the wheel of $wheel at $WHEELS needs libraries that this image has not:" "$missing" >&2
    exit 1
fi

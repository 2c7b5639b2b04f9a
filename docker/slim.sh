#!/bin/sh
# Take out of a virtual environment what nothing imports while fedcore runs: tests, headers, static libraries, stubs.
# Compiled byte code stays: the root file system is read-only, so nobody could write it later, and starting without it
# takes a device many seconds.
set -eu
packages=$(echo "$1"/lib/python3*/site-packages)
find "$packages" -type d \( -name tests -o -name test \) -not -path '*/torch/*' -prune -exec rm -rf {} +
find "$packages" \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.a' -o -name '*.lib' \) -delete
rm -rf "$packages"/torch/include "$packages"/torch/share "$packages"/torch/test
if [ -d "$packages/torch/bin" ]; then
    find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete # torch will not be imported without that one
fi
rm -rf "$packages"/pyarrow/include "$packages"/pyarrow/src
rm -f "$packages"/zstandard/_cffi.*.so # the engine for PyPy; CPython takes the other one

#!/usr/bin/env bash
# Runs the kernels' tests on Neon, in an emulator: no such machine is needed.
# Needs the Rust target (`rustup target add aarch64-unknown-linux-gnu`) and, from Debian or Ubuntu, gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user. Arguments go to the tests, e.g. tools/neon.sh --test packed
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
if [ $# -eq 0 ]; then set -- --tests; fi
exec cargo test --release --package cloze-kernels --target "$target" "$@"

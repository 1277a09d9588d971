#!/usr/bin/env bash
# Times every mixer over lengths and fits how it grows. Arguments go on, e.g. bench/mixers/run.sh --lengths 1024,4096 --only pool
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cargo build --quiet --manifest-path "$root/Cargo.toml" --release --package cloze-nn --package cloze --example mixers
exec "${CARGO_TARGET_DIR:-$root/target}/release/examples/mixers" "$@"

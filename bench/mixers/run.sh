#!/usr/bin/env bash
# Times every mixer over lengths and fits how it grows. Arguments go on, e.g. bench/mixers/run.sh --lengths 1024,4096 --only pool
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
exec cargo run --quiet --manifest-path "$root/Cargo.toml" --release --package cloze-nn --example mixers -- "$@"

#!/usr/bin/env bash
# Installs PyTorch into target/bench/venv, builds Cloze's side and prints the table.
# Arguments go to compare.py, e.g. bench/training/run.sh --interactions ml-1m.txt.gz --threads 2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CLOZE_BENCH_VENV:-$root/target/bench/venv}
target=${CARGO_TARGET_DIR:-$root/target}

if ! "$venv/bin/python" -c 'import torch, transformers' 2>/dev/null; then
    python3 -m venv "$venv"
    nice "$venv/bin/pip" install --quiet --no-cache-dir "torch==2.15.0" "transformers==4.57.6" "numpy"
fi
cargo build --manifest-path "$root/Cargo.toml" --release --package cloze-train --package cloze --example training_step
exec "$venv/bin/python" "$here/compare.py" --cloze "$target/release/examples/training_step" "$@"

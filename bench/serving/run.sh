#!/usr/bin/env bash
# Cloze's server beside ONNX Runtime behind FastAPI, and infinity if its program is given, under the same load.
# bench/serving/run.sh MODEL_FOLDER MODEL.onnx [arguments of compare.py, e.g. --infinity .../bin/infinity_emb --ways]
# CLOZE_BENCH_SERVING_VENV names an environment that has the packages of requirements.txt; else one is made below target/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CLOZE_BENCH_SERVING_VENV:-$root/target/bench/serving-venv}
target=${CARGO_TARGET_DIR:-$root/target}

if ! "$venv/bin/python" -c 'import fastapi, onnxruntime, orjson, tokenizers, uvicorn' 2>/dev/null; then
    python3 -m venv "$venv"
    nice "$venv/bin/pip" install --quiet --no-cache-dir -r "$here/requirements.txt"
fi
cargo build --manifest-path "$root/Cargo.toml" --release --package cloze --package cloze-nn --package cloze-serve \
    --bin cloze --example load
exec "$venv/bin/python" "$here/compare.py" --cloze "$target/release/cloze" --load "$target/release/examples/load" \
    --model "$1" --onnx "$2" "${@:3}"

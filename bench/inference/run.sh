#!/usr/bin/env bash
# Installs the other engines into target/bench/inference-venv, makes the models, builds Cloze's side and prints the tables.
# Arguments go to compare.py, e.g. bench/inference/run.sh --threads 4 --long 1024
# With --accuracy STS.tsv it compares rounded arithmetic with exact on that file instead; see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CLOZE_BENCH_VENV:-$root/target/bench/inference-venv}
models=${CLOZE_BENCH_MODELS:-$root/target/bench/inference-models}
target=${CARGO_TARGET_DIR:-$root/target}
python=$venv/bin/python

if ! "$python" -c 'import ctranslate2, onnxruntime, openvino, tokenizers, torch, transformers' 2>/dev/null; then
    python3 -m venv "$venv"
    nice "$venv/bin/pip" install --quiet --no-cache-dir -r "$here/requirements.txt"
fi
nice "$python" "$here/prepare.py" "$models" ${CLOZE_BENCH_MINILM:+--minilm "$CLOZE_BENCH_MINILM"}
cargo build --manifest-path "$root/Cargo.toml" --release --package cloze-runtime --example drive
if [[ ${1-} == --accuracy ]]; then
    shift
    exec "$python" "$here/accuracy.py" --models "$models" --cloze "$target/release/examples/drive" "$@"
fi
rustc --edition 2024 -O -C target-cpu=native -o "$models/peak" "$here/peak.rs"
exec "$python" "$here/compare.py" --models "$models" --peak "$models/peak" --cloze "$target/release/examples/drive" "$@"

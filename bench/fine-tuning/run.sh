#!/usr/bin/env bash
# Fine-tunes with Cloze and with transformers in turn; see README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${CLOZE_BENCH_VENV:-target/bench/venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet torch==2.8.0 transformers==4.57.6 scipy scikit-learn seqeval
fi
cargo build --release --quiet -p cloze
exec "$venv/bin/python" bench/fine-tuning/compare.py "$@"

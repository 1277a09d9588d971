"""ONNX Runtime behind FastAPI and uvicorn, as one would write it with care: texts of all requests meet in one queue, what
waits is sorted by length and cut into batches by padded tokens, the session runs on its threads outside the event loop."""

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from tokenizers import Tokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--onnx", required=True)
parser.add_argument("--tokenizer", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch-tokens", type=int, default=4096)
args = parser.parse_args()

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = args.threads
options.inter_op_num_threads = 1
# Waiting threads would take the cores from the event loop.
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
names = {i.name for i in session.get_inputs()}
tokenizer = Tokenizer.from_file(args.tokenizer)
tokenizer.enable_truncation(256)
tokenizer.no_padding()

app = FastAPI()
worker = ThreadPoolExecutor(1)
waiting: list = []
arrived = asyncio.Event()


def compute(ids):
    longest = max(map(len, ids))
    tokens = np.zeros((len(ids), longest), np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for row, text in enumerate(ids):
        tokens[row, : len(text)] = text
        mask[row, : len(text)] = 1
    feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    (hidden, *_) = session.run(None, {k: v for k, v in feed.items() if k in names})
    if hidden.ndim == 3:
        # [B, T, D] x [B, T] -> [B, D]
        hidden = np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0] / mask.sum(1, keepdims=True)
    return hidden / np.linalg.norm(hidden, axis=1, keepdims=True)


async def work():
    loop = asyncio.get_running_loop()
    while True:
        await arrived.wait()
        arrived.clear()
        now, waiting[:] = sorted(waiting, key=lambda job: len(job[0])), []
        while now:
            batch = []
            while now and (not batch or len(now[0][0]) * (len(batch) + 1) <= args.batch_tokens):
                batch.append(now.pop(0))
            vectors = await loop.run_in_executor(worker, compute, [ids for ids, _ in batch])
            for (_, future), vector in zip(batch, vectors):
                if not future.done():
                    future.set_result(vector)


@app.on_event("startup")
async def startup():
    app.state.work = asyncio.create_task(work())


@app.get("/health")
async def health():
    return Response()


@app.post("/v1/embeddings")
async def embeddings(request: Request):
    texts = orjson.loads(await request.body())["input"]
    texts = [texts] if isinstance(texts, str) else texts
    encodings = tokenizer.encode_batch(texts)
    loop = asyncio.get_running_loop()
    futures = []
    for encoding in encodings:
        futures.append(loop.create_future())
        waiting.append((encoding.ids, futures[-1]))
    arrived.set()
    vectors = [await future for future in futures]
    used = sum(len(e.ids) for e in encodings)
    body = {
        "object": "list",
        "data": [{"object": "embedding", "embedding": v, "index": i} for i, v in enumerate(vectors)],
        "model": "minilm",
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", access_log=False)

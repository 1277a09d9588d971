"""Asks `cloze serve` by other people's clients, and compares their answers with those of the command line.

The model for vectors is given; those that label, rank, fill, answer and recommend are small."""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

tests = Path(__file__).parent.parent.parent / "crates/runtime/tests"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("cloze", help="the program")
parser.add_argument("model", help="a model for embeddings: all-MiniLM-L6-v2, or a folder")
parser.add_argument("--schema", type=int, metavar="COUNT", help="so many requests of each route by schemathesis, too")
args = parser.parse_args()

TEXTS = ["The cat sits outside.", "A man is playing guitar.", "Çok güzel — 日本語 😀"]
PASSAGES = ["A dog runs.", "The query is here.", "Nothing of the kind."]
KEY = "secret"
# For floats of at most 1: what other orders of sums, here in doubles, make of them.
TOLERANCE = 3e-7


def command_line(*words: str) -> list[dict]:
    done = subprocess.run([args.cloze, *words], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def server(*models: str):
    """Serves models to whoever has the key; its address."""
    port = 3941
    command = [args.cloze, "serve", *models, "--port", str(port), "--api-key", KEY, "--log", "warn"]
    process = subprocess.Popen(command)
    at = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{at}/health", timeout=1)
                break
            time.sleep(0.1)
        yield at
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        process.wait()


def alike(what: str, found, wanted) -> None:
    found, wanted = ([float(x) for x in values] for values in (found, wanted))
    assert len(found) == len(wanted), f"{what}: {len(found)} numbers, not {len(wanted)}"
    far = max(abs(a - b) for a, b in zip(found, wanted))
    assert far <= TOLERANCE, f"{what}: differs by {far}"
    print(f"  {what}: {len(found)} numbers, at most {far:.1e} off", flush=True)


def flat(vectors) -> list[float]:
    return [x for vector in vectors for x in vector]


def say(package: str) -> None:
    print(f"{package} {importlib.metadata.version(package)}", flush=True)


def openai(at: str, vectors: list[list[float]]) -> None:
    import openai

    say("openai")
    client = openai.OpenAI(base_url=f"{at}/v1", api_key=KEY)
    # It asks for base 64 unless told otherwise.
    for name, more in [("base64, by default", {}), ("floats", {"encoding_format": "float"})]:
        answer = client.embeddings.create(model="mini", input=TEXTS, **more)
        alike(f"embeddings, {name}", flat(each.embedding for each in answer.data), flat(vectors))
    short = client.embeddings.create(model="mini", input=TEXTS[0], dimensions=64).data[0].embedding
    length = math.sqrt(sum(x * x for x in vectors[0][:64]))
    alike("embeddings, 64 dimensions", short, [x / length for x in vectors[0][:64]])
    assert {model.id for model in client.models.list()} == {"mini", "ranker"}
    try:
        client.embeddings.create(model="nobody", input="a")
        raise AssertionError("an unknown model answered")
    except openai.NotFoundError as error:
        assert "nobody" in error.message, error.message
    try:
        openai.OpenAI(base_url=f"{at}/v1", api_key="wrong").embeddings.create(model="mini", input="a")
        raise AssertionError("a wrong key was let in")
    except openai.AuthenticationError:
        print("  models, an unknown model, a wrong key: as they should be")


def cohere(at: str, scores: list[float]) -> None:
    import cohere

    say("cohere")
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    for name, client in [("v1", cohere.Client(KEY, base_url=at)), ("v2", cohere.ClientV2(KEY, base_url=at))]:
        answer = client.rerank(model="ranker", query=TEXTS[0], documents=PASSAGES, top_n=2)
        assert [each.index for each in answer.results] == order[:2], answer
        alike(f"rerank, {name}", (each.relevance_score for each in answer.results), (scores[place] for place in order[:2]))


def hub(at: str, vectors: list[list[float]]) -> None:
    from huggingface_hub import InferenceClient

    say("huggingface_hub")
    client = InferenceClient(model=at, token=KEY)
    found = [client.feature_extraction(text) for text in TEXTS]
    alike("feature_extraction", flat(vector.ravel() for vector in found), flat(vectors))
    found = client.sentence_similarity(TEXTS[0], TEXTS[1:])
    alike("sentence_similarity", found, (sum(a * b for a, b in zip(vectors[0], other)) for other in vectors[1:]))


def hub_labels(at: str, labels: list[list[dict]]) -> None:
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=at, token=KEY)
    say("huggingface_hub")
    for text, wanted in zip(TEXTS, labels):
        # It takes the first of what it gets: of one text, as text-embeddings-inference answers too, the likeliest label.
        best, ranked = client.text_classification(text), client.text_classification([[text]])
        assert best.label == wanted[0]["label"], (best, wanted)
        assert [each.label for each in ranked] == [each["label"] for each in wanted], (ranked, wanted)
        alike("text_classification", (each.score for each in ranked), (each["score"] for each in wanted))


def langchain(at: str, vectors: list[list[float]]) -> None:
    from langchain_openai import OpenAIEmbeddings

    say("langchain-openai")
    # Its tokens are another model's; texts are sent as they are.
    client = OpenAIEmbeddings(model="mini", base_url=f"{at}/v1", api_key=KEY, check_embedding_ctx_length=False)
    alike("embed_documents", flat(client.embed_documents(TEXTS)), flat(vectors))
    alike("embed_query", client.embed_query(TEXTS[0]), vectors[0])


def llama_index(at: str, vectors: list[list[float]]) -> None:
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    say("llama-index-embeddings-text-embeddings-inference")
    # Instructions are those of other models unless they are said to be none.
    client = TextEmbeddingsInference(
        model_name="mini", base_url=at, auth_token=KEY, text_instruction="", query_instruction=""
    )
    alike("text embeddings", flat(client.get_text_embedding_batch(TEXTS)), flat(vectors))
    alike("query embedding", client.get_query_embedding(TEXTS[0]), vectors[0])


def recommender(folder: str) -> Path:
    """A small one, of purchases that go round in a circle."""
    log, model = Path(folder, "log.csv"), Path(folder, "items")
    rows = (f"{user},{(user + at) % 20},{at}" for user in range(60) for at in range(8))
    log.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    command = [args.cloze, "train", "bert4rec", "--data", log, "--user", "user", "--item", "item", "--time", "time"]
    command += ["--set", "epochs=2", "-o", model]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return model


def schema(at: str) -> None:
    say("schemathesis")
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{at}/api-doc/openapi.json"]
    command += ["--header", f"authorization: Bearer {KEY}", "--max-examples", str(args.schema), "--seed", "1"]
    # Bodies may have more than the document says, as text-embeddings-inference lets them.
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"]
    subprocess.run(command, check=True, cwd=tempfile.mkdtemp())


with tempfile.TemporaryDirectory() as folder:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    texts, pairs = Path(folder, "texts.jsonl"), Path(folder, "pairs.jsonl")
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    pairs.write_text("".join(json.dumps({"text": TEXTS[0], "passage": passage}) + "\n" for passage in PASSAGES))
    embedded = [row["embedding"] for row in command_line("embed", args.model, str(texts))]
    labelled = [row["labels"] for row in command_line("predict", str(tests / "pipelines/labels"), str(texts))]
    ranked = command_line("predict", str(tests / "golden/cross-encoder"), str(pairs), "--pair", "passage")
    with server(f"mini={args.model}", f"ranker={tests / 'golden/cross-encoder'}") as at:
        openai(at, embedded)
        cohere(at, [row["score"] for row in ranked])
        hub(at, embedded)
        langchain(at, embedded)
        llama_index(at, embedded)
    with server(f"labels={tests / 'pipelines/labels'}") as at:
        hub_labels(at, labelled)
    if args.schema:
        # Every route has a model that it asks.
        kinds = [f"{name}={tests / 'pipelines' / name}" for name in ("labels", "masks", "tokens", "answers")]
        kinds += [f"mini={args.model}", f"ranker={tests / 'golden/cross-encoder'}", f"items={recommender(folder)}"]
        with server(*kinds) as at:
            schema(at)
print("all as the command line says")

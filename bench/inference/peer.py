"""An engine that Cloze is timed against, driven over stdin and stdout; the protocol stands in README.md.

Each batch of a case is padded to its longest sequence, once, before any timing.
Letters: B sequences, T tokens of the longest one, N tokens of a case, D width.
"""

import argparse
import json
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np

# What Python and NumPy need before there is an engine.
BASE_MIB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 2**20


def padded(batch, kind):
    """Ids and mask `[B, T]`, and the lengths."""
    lengths = [len(sequence) for sequence in batch]
    tokens = np.zeros((len(batch), max(lengths)), kind)
    mask = np.zeros_like(tokens)
    for row, sequence in enumerate(batch):
        tokens[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return tokens, mask, lengths


class Onnxruntime:
    """The graph that the transformer optimiser fused, where there is one, with every run-time optimisation."""

    def __init__(self, folder, model, threads):
        import onnxruntime

        self.name = f"onnxruntime-{onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        fused = folder / f"{model}-fused.onnx"
        path = fused if fused.exists() else folder / f"{model}.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
        self.inputs = {put.name: kinds[put.type] for put in self.session.get_inputs()}

    def prepare(self, batch):
        tokens, mask, _ = padded(batch, np.int64)
        values = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        return {name: values[name].astype(kind) for name, kind in self.inputs.items()}

    def run(self, inputs):
        return self.session.run(None, inputs)[0]


class Openvino:
    """The exported graph, compiled for one request at a time; all threads work on it."""

    def __init__(self, folder, model, threads):
        import openvino

        self.name = f"openvino-{openvino.__version__.split('-')[0]}"
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        compiled = openvino.Core().compile_model(str(folder / f"{model}.onnx"), "CPU", options)
        self.names = [put.any_name for put in compiled.inputs]
        self.request = compiled.create_infer_request()

    def prepare(self, batch):
        tokens, mask, _ = padded(batch, np.int64)
        values = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        return {name: values[name] for name in self.names}

    def run(self, inputs):
        self.request.infer(inputs, share_inputs=True)
        return self.request.get_output_tensor(0).data


class Ctranslate2:
    """CTranslate2's own format; it drops the padding again where that pays."""

    def __init__(self, folder, model, threads, compute="float32", suffix=""):
        import ctranslate2

        self.name = f"ctranslate2-{ctranslate2.__version__}"
        self.view = ctranslate2.StorageView.from_array
        path = str(folder / f"{model}-ctranslate2{suffix}")
        self.encoder = ctranslate2.Encoder(
            path, device="cpu", compute_type=compute, inter_threads=1, intra_threads=threads
        )

    def prepare(self, batch):
        tokens, _, lengths = padded(batch, np.int32)
        # Views of these arrays: they must live as long.
        arrays = tokens, np.array(lengths, np.int32)
        return arrays, tuple(self.view(array) for array in arrays)

    def run(self, inputs):
        tokens, lengths = inputs[1]
        return np.asarray(self.encoder.forward_batch(tokens, lengths).last_hidden_state)


ENGINES = {
    "onnxruntime": Onnxruntime,
    "openvino": Openvino,
    "ctranslate2": Ctranslate2,
    "ctranslate2-int8": lambda *arguments: Ctranslate2(*arguments, compute="int8", suffix="-int8"),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--engine", choices=ENGINES, required=True)
    arguments.add_argument("--models", type=Path, required=True, help="the folder that prepare.py made")
    arguments.add_argument("--model", required=True, help="a name in it")
    arguments.add_argument("--cases", type=Path, required=True)
    arguments.add_argument("--threads", type=int, required=True)
    arguments = arguments.parse_args()

    engine = ENGINES[arguments.engine](arguments.models, arguments.model, arguments.threads)
    cases = json.loads(arguments.cases.read_text(encoding="utf-8"))
    prepared = {name: [engine.prepare(batch) for batch in batches] for name, batches in cases.items()}
    print(f"ready base_mib={BASE_MIB:.0f} name={engine.name}", flush=True)

    for line in sys.stdin:
        command, case, value = line.split()
        if command == "run":
            times = []
            for _ in range(int(value)):
                start = time.perf_counter()
                for inputs in prepared[case]:
                    engine.run(inputs)
                times.append(f"{(time.perf_counter() - start) * 1e3:.4f}")
            print(f"ms={','.join(times)}", flush=True)
        elif command == "write":
            with open(value, "wb") as out:
                for batch, inputs in zip(cases[case], prepared[case], strict=True):
                    hidden = engine.run(inputs)
                    for row, sequence in zip(hidden, batch, strict=True):
                        out.write(np.ascontiguousarray(row[: len(sequence)], np.float32).tobytes())
            print(f"width={hidden.shape[-1]}", flush=True)
        else:
            sys.exit(f'expected "run CASE TIMES" or "write CASE FILE", found {line.strip()!r}')


if __name__ == "__main__":
    main()

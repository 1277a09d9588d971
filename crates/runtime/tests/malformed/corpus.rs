//! Small valid files of every format, to be damaged.

use std::collections::HashMap;
use std::fs;

use cloze_runtime::weights::Weights;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use zip::CompressionMethod;

use crate::parser::{CUT, Parser, SENTENCE_FILES, STORAGES, references};
use crate::torch::{self, Tensor};

/// Folders of references, of every family and head.
pub const MODELS: [&str; 15] = [
    "albert-mlm",
    "bert",
    "bert-relative-key",
    "cross-encoder-labels",
    "deberta-v2-conv",
    "deberta-v3",
    "distilbert-mlm",
    "electra",
    "gte",
    "gte-logn",
    "jina-qk",
    "modernbert-v5",
    "mpnet-mlm",
    "nomic",
    "roberta-mlm",
];

/// Valid input of `parser`, in several ways of writing it.
pub fn corpus(parser: Parser) -> Vec<Vec<u8>> {
    match parser {
        Parser::Safetensors => vec![tensors(), one_tensor()],
        Parser::Torch => {
            let pickle = torch::state_dict(&tied());
            let halves = torch::state_dict(&[
                Tensor::new("a", "HalfStorage", "0", &[2, 16]),
                Tensor::new("b", "BFloat16Storage", "1", &[32]),
                Tensor::new("c", "BoolStorage", "2", &[]),
            ]);
            let old = [("0", 16, STORAGES[0].1), ("1", 8, STORAGES[1].1)];
            let mut files = vec![torch::legacy(&torch::state_dict(&tied()[..3]), &old)];
            for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
                files.push(torch::zip(&pickle, &STORAGES, method));
                files.push(torch::zip(&halves, &STORAGES, method));
            }
            files
        }
        Parser::Pickle => vec![
            torch::state_dict(&tied()),
            torch::state_dict(&tied()[1..2]),
            // As PyTorch 1 writes a parameter, with a list, a tuple and integers of every size beside it.
            [
                b"\x80\x02}(".to_vec(),
                torch::text("w"),
                b"ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
                torch::text("storage"),
                b"ctorch\nFloatStorage\n".to_vec(),
                torch::text("0"),
                torch::text("cpu"),
                b"K\x10NtQK\x00K\x04K\x04\x86K\x04K\x01\x86\x89}tR\x88}tRu}(".to_vec(),
                torch::text("_metadata"),
                b"](M\x00\x01J\xff\xff\xff\xff\x8a\x01\xffG\x3f\xf0\x00\x00\x00\x00\x00\x00U\x01aNeN\x85q\x01h\x01ub."
                    .to_vec(),
            ]
            .concat(),
        ],
        Parser::Config => MODELS
            .map(|name| {
                let folder = references(name);
                let config = fs::read(folder.join("config.json")).unwrap();
                let weights = Weights::open(&[folder.join("model.safetensors")]).unwrap();
                let shapes = serde_json::to_vec(&weights.shapes()).unwrap();
                [config, CUT.into(), shapes].concat()
            })
            .to_vec(),
        Parser::Model => MODELS
            .map(|name| {
                let config = fs::read(references(name).join("config.json")).unwrap();
                [name.as_bytes(), b"\n", &config].concat()
            })
            .to_vec(),
        Parser::Sentence => {
            let files = SENTENCE_FILES.map(|name| fs::read(references("sentence").join(name)).unwrap());
            vec![files.join(CUT.as_bytes())]
        }
        Parser::Index => {
            vec![fs::read(references("bert-qa").join("model.safetensors.index.json")).unwrap()]
        }
        Parser::Golden => vec![small_golden()],
    }
}

/// Views of storages: two of one, strided, of another type, and one of nothing.
fn tied() -> Vec<Tensor> {
    let float = |name| Tensor::new(name, "FloatStorage", "0", &[4, 4]);
    vec![
        float("embeddings.weight"),
        float("decoder.weight"),
        Tensor {
            shape: vec![2, 4],
            strides: vec![1, 2],
            ..Tensor::new("w", "DoubleStorage", "1", &[])
        },
        Tensor {
            offset: 1,
            ..Tensor::new("position_ids", "LongStorage", "2", &[1, 7])
        },
        Tensor::new("none", "FloatStorage", "0", &[0, 3]),
    ]
}

fn safetensors(tensors: &[(&str, Dtype, &[usize], &[u8])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|&(name, dtype, shape, bytes)| {
        (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    });
    let metadata: HashMap<_, _> = metadata
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

fn tensors() -> Vec<u8> {
    let bytes = [0x3f; 64];
    safetensors(
        &[
            ("a", Dtype::F32, &[4, 4], &bytes),
            ("b.c", Dtype::F64, &[2], &bytes[..16]),
            ("half", Dtype::F16, &[1, 1, 2], &bytes[..4]),
            ("brain", Dtype::BF16, &[0, 9], &[]),
            ("ids", Dtype::I64, &[], &bytes[..8]),
            ("mask", Dtype::BOOL, &[3], &[1, 0, 1]),
        ],
        &[("format", "pt")],
    )
}

fn one_tensor() -> Vec<u8> {
    safetensors(&[("weight", Dtype::F32, &[2, 2], &[0; 16])], &[])
}

/// References of the model in the folder `bert`, far from what it gives.
fn small_golden() -> Vec<u8> {
    const WIDTH: usize = 24;
    let ints = |values: &[i32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let (offsets, tokens, segments) = (ints(&[0, 1, 3]), ints(&[2, 5, 3]), ints(&[0, 0, 1]));
    let hidden = vec![0x3f; 4 * 3 * 3 * WIDTH];
    let logits = vec![0x3f; 4 * 2 * WIDTH];
    safetensors(
        &[
            ("offsets", Dtype::I32, &[3], &offsets),
            ("tokens", Dtype::I32, &[3], &tokens),
            ("segments", Dtype::I32, &[3], &segments),
            ("hidden", Dtype::F32, &[3, 3, WIDTH], &hidden),
            ("logits", Dtype::F32, &[2, WIDTH], &logits),
        ],
        &[
            ("format", "golden 1"),
            ("source", "made by hand"),
            ("texts", "[\"a\", [\"b\", \"c\"]]"),
            ("prompts", "[null, \"query\"]"),
        ],
    )
}

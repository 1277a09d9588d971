//! What can be read and overwritten within a stack, of encoders of texts and of items.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod tiny;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use cloze_data::batch::PackedBatch;
use cloze_nn::pretrained::Pretrained;
use cloze_nn::{Encoder, Hook, Noise, Sequences, Site};
use cloze_runtime::Batch;
use cloze_runtime::model::Checkpoint;
use cloze_spec::Model;
use cloze_spec::block::{Block, Residual};
use cloze_spec::encoder::Order;
use cloze_spec::inventory::encoder_parameters;
use tiny::{ITEMS, batch, bits, device_under_test, ids, model, read, values};

/// A pass of something, looked into.
type Run<'a> = Box<dyn Fn(&mut Hook<'_>) -> Tensor<2> + 'a>;

/// What each site had, and what the pass gave.
fn captured(run: &Run<'_>) -> (BTreeMap<Site, Tensor<2>>, Tensor<2>) {
    let mut all = BTreeMap::new();
    let mut see = |site, x: Tensor<2>| {
        all.insert(site, x.clone());
        x
    };
    let last = run(&mut Hook::new(&mut see));
    (all, last)
}

fn items(pre_norm: bool) -> (Model, Encoder, Sequences) {
    let mut model = model();
    if pre_norm {
        model.stack.block = Block::PreNorm(Residual::plain(0.0));
    }
    let values = values(&model, ITEMS, 7);
    let encoder = Encoder::new(&model, ITEMS, &values, &device_under_test());
    let mut batch: PackedBatch = batch(4, ITEMS, &[9, 1, 4, 7]);
    batch.rows = (0..batch.tokens.len() as u32).collect();
    (model, encoder, Sequences::new(&batch))
}

/// Every pretrained encoder of the golden folders, with three texts.
fn texts() -> Vec<(String, Pretrained, Batch)> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
    let mut folders: Vec<_> = std::fs::read_dir(home).unwrap().collect();
    folders.sort_by_key(|entry| entry.as_ref().unwrap().path());
    folders
        .into_iter()
        .map(|entry| {
            let path = entry.unwrap().path();
            let checkpoint = Checkpoint::open(&path).unwrap();
            let value = |parameter: cloze_spec::inventory::Parameter| {
                let mut values = vec![0.0; parameter.shape.iter().product()];
                checkpoint.read(&parameter, &mut values).unwrap();
                (parameter.name, values)
            };
            let parameters = encoder_parameters(&checkpoint.encoder).into_iter();
            let values = parameters.map(value).collect();
            let encoder = Arc::new(checkpoint.encoder.clone());
            let mut batch = Batch::new();
            for len in [5, 1, 8] {
                batch.push(&ids(len as u64, len, encoder.embed.vocab), &[]);
            }
            let model = Pretrained::new(encoder, &values, &device_under_test());
            (path.display().to_string(), model, batch)
        })
        .collect()
}

#[test]
fn to_look_changes_nothing_and_shows_every_site() {
    for pre_norm in [true, false] {
        let (model, encoder, sequences) = items(pre_norm);
        let run: Run<'_> = Box::new(|hook| encoder.hooked(&sequences, &mut Noise::none(), hook));
        let (sites, last) = captured(&run);
        let plain = encoder.forward(&sequences, &mut Noise::none());
        assert_eq!(bits(&read(&last)), bits(&read(&plain)));
        assert_eq!(sites.len(), 1 + 5 * model.stack.layers);
        for layer in 0..model.stack.layers {
            let alone = encoder.mixed(
                layer,
                sites[&Site::Input(layer)].clone(),
                &sequences.offsets,
            );
            let [alone, within] = [alone, sites[&Site::Mixer(layer)].clone()].map(|x| read(&x));
            assert_eq!(bits(&alone), bits(&within));
        }
    }
    for (name, model, batch) in texts() {
        let run: Run<'_> = Box::new(|hook| model.forward(&batch, hook));
        let (sites, last) = captured(&run);
        let plain = model.forward(&batch, &mut Hook::none());
        assert_eq!(bits(&read(&last)), bits(&read(&plain)), "{name}");
        let layers = model.settings().layers.len();
        assert_eq!(sites.len(), 1 + 5 * layers, "{name}");
        let end = model.normed(sites[&Site::Layer(layers - 1)].clone());
        assert_eq!(bits(&read(&end)), bits(&read(&last)), "{name}");
        for layer in 0..layers {
            let input = sites[&Site::Input(layer)].clone();
            let alone = read(&model.mixed(layer, input, &batch.offsets));
            assert_eq!(
                bits(&alone),
                bits(&read(&sites[&Site::Mixer(layer)])),
                "{name}"
            );
        }
    }
}

#[test]
fn a_site_given_its_own_vectors_changes_nothing_and_others_only_what_follows() {
    let (_, encoder, sequences) = items(true);
    let (_, text, batch) = texts().swap_remove(0);
    let runs: [Run<'_>; 2] = [
        Box::new(|hook| encoder.hooked(&sequences, &mut Noise::none(), hook)),
        Box::new(|hook| text.forward(&batch, hook)),
    ];
    for run in &runs {
        let (sites, last) = captured(run);
        for (&edited, own) in &sites {
            let with = |x: &Tensor<2>| {
                let mut after = BTreeMap::new();
                let mut edit = |site, found: Tensor<2>| {
                    after.insert(site, bits(&read(&found)));
                    if site == edited { x.clone() } else { found }
                };
                let last = run(&mut Hook::new(&mut edit));
                (after, bits(&read(&last)))
            };
            assert_eq!(with(own).1, bits(&read(&last)), "{edited}");
            // Not the same to all channels, which a norm would take away again.
            let (after, moved) = with(&(own.clone() * own.clone().add_scalar(1.5)));
            assert_ne!(moved, bits(&read(&last)), "{edited}");
            for (site, found) in after {
                if order(site) <= order(edited) {
                    assert_eq!(found, bits(&read(&sites[&site])), "{site} after {edited}");
                }
            }
        }
    }
}

/// When a site is passed.
fn order(site: Site) -> usize {
    match site {
        Site::Embedding => 0,
        Site::Input(layer) => 5 * layer + 1,
        Site::Mixer(layer) => 5 * layer + 2,
        Site::Middle(layer) => 5 * layer + 3,
        Site::Ffn(layer) => 5 * layer + 4,
        Site::Layer(layer) => 5 * layer + 5,
    }
}

/// Where norms come first: embedding and all that layers add make the end of the residual stream.
#[test]
fn what_is_added_makes_the_end_of_the_residual_stream() {
    const LARGEST: f32 = 1e-5;
    let (model, encoder, sequences) = items(true);
    let run: Run<'_> = Box::new(|hook| encoder.hooked(&sequences, &mut Noise::none(), hook));
    let mut passes = vec![("items".to_owned(), model.stack.layers, captured(&run).0)];
    for (name, model, batch) in texts() {
        let first = |layer: &cloze_spec::encoder::Layer| match layer.attention() {
            Some(layer) => layer.order == Order::PreNorm && layer.convolution.is_none(),
            None => false,
        };
        if model.settings().layers.iter().all(first) {
            let run: Run<'_> = Box::new(|hook| model.forward(&batch, hook));
            passes.push((name, model.settings().layers.len(), captured(&run).0));
        }
    }
    assert!(passes.len() > 1);
    for (name, layers, sites) in passes {
        let mut sum = sites[&Site::Embedding].clone();
        for layer in 0..layers {
            sum = sum + sites[&Site::Mixer(layer)].clone();
            let middle = (sum.clone() - sites[&Site::Middle(layer)].clone()).abs();
            sum = sum + sites[&Site::Ffn(layer)].clone();
            let end = (sum.clone() - sites[&Site::Layer(layer)].clone()).abs();
            let off: f32 = middle.max().max_pair(end.max()).into_scalar();
            let size: f32 = sum.clone().abs().max().into_scalar();
            assert!(
                off <= LARGEST * size,
                "{name}, layer {layer}: {off} of {size}"
            );
        }
    }
}

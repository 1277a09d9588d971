use burn::module::Module;
use burn::tensor::Tensor;
use cloze_spec::block;
use cloze_spec::codebook::Branch;
use cloze_spec::mixer::Room;
use cloze_spec::model::Layer;

use crate::codebook::Codebook;
use crate::ffn::AnyFfn;
use crate::mixer::{AnyMixer, Mixer};
use crate::noise::Noise;
use crate::norm::AnyNorm;
use crate::op::{self, Dropout};
use crate::sequences::Sequences;
use crate::site::{Hook, Site};
use crate::weights::{Source, Weight};

/// One layer: mixer and feed-forward, each with its residual connection and norms.
#[derive(Module, Debug)]
pub(crate) struct Block {
    mixer: AnyMixer,
    mixer_codes: Option<Codebook>,
    mixer_norm: AnyNorm,
    mixer_after: Option<AnyNorm>,
    mixer_scale: Option<Weight<1>>,
    ffn: Option<AnyFfn>,
    ffn_codes: Option<Codebook>,
    ffn_norm: Option<AnyNorm>,
    ffn_after: Option<AnyNorm>,
    ffn_scale: Option<Weight<1>>,
    /// Norms stand before the branches, not after the sums.
    norm_first: bool,
    ffn_replaces: bool,
}

impl Block {
    pub fn new(layer: &Layer, room: Room, source: &Source<'_>, name: &str) -> Self {
        let name = |part: &str| format!("{name}.{part}");
        let norm = |part: &str| AnyNorm::new(&layer.norm, source, &name(part));
        let residual = layer.block.residual();
        let (norm_first, norm_after) = match layer.block {
            block::Block::PreNorm(_) => (true, false),
            block::Block::PostNorm(_) => (false, false),
            block::Block::Sandwich(_) => (true, true),
        };
        let scale = |part: &str| residual.layer_scale.map(|_| source.parameter(&name(part)));
        let ffn = AnyFfn::new(&layer.ffn, source, &name("ffn"));
        let codes =
            |branch, part: &str| Codebook::of(layer.codebook.as_ref(), branch, source, &name(part));
        Self {
            mixer: AnyMixer::new(&layer.mixer, room, source, &name("mixer")),
            mixer_codes: codes(Branch::Mixer, "mixer_codes"),
            mixer_norm: norm("mixer_norm"),
            mixer_after: norm_after.then(|| norm("mixer_after")),
            mixer_scale: scale("mixer_scale"),
            ffn_codes: ffn.as_ref().and_then(|_| codes(Branch::Ffn, "ffn_codes")),
            ffn_norm: ffn.as_ref().map(|_| norm("ffn_norm")),
            ffn_after: (ffn.is_some() && norm_after).then(|| norm("ffn_after")),
            ffn_scale: ffn.as_ref().and_then(|_| scale("ffn_scale")),
            ffn,
            norm_first,
            ffn_replaces: layer.ffn.replaces(),
        }
    }

    /// If `selected`, only the batch's `rows` are carried on once the tokens have been mixed: after that each token is
    /// by itself, so the last layer need not compute what nobody reads. `dropout` is the share of each branch that is dropped.
    ///
    /// # Shapes
    /// `x: [N, D]` → `[N, D]`, or `[M, D]` if `selected`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        sequences: &Sequences,
        selected: bool,
        dropout: f32,
        noise: &mut Noise,
        hook: &mut Hook<'_>,
    ) -> Tensor<2> {
        let input = self.before(&self.mixer_norm, x.clone());
        let input = hook.at(Site::Input, input);
        let mut mixed = self.mixer.forward(input, sequences, selected, noise);
        if let Some(codes) = &self.mixer_codes {
            mixed = codes.forward(mixed, Site::Mixer, noise, hook);
        }
        let mixed = finish(mixed, self.mixer_after.as_ref(), self.mixer_scale.as_ref());
        let mixed = hook.at(Site::Mixer, mixed);
        let x = sequences.wanted(x, selected);
        let x = self.join(&self.mixer_norm, mixed, Some(x), noise.dropout(dropout));

        let (Some(ffn), Some(norm)) = (&self.ffn, &self.ffn_norm) else {
            return x;
        };
        let x = hook.at(Site::Middle, x);
        let mut fed = ffn.forward(self.before(norm, x.clone()));
        if let Some(codes) = &self.ffn_codes {
            fed = codes.forward(fed, Site::Ffn, noise, hook);
        }
        let fed = finish(fed, self.ffn_after.as_ref(), self.ffn_scale.as_ref());
        let fed = hook.at(Site::Ffn, fed);
        let residual = (!self.ffn_replaces).then_some(x);
        self.join(norm, fed, residual, noise.dropout(dropout))
    }

    /// What the mixer makes of what it is given, [`Site::Input`]: `[N, D]` → `[N, D]`.
    pub fn mixed(&self, x: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
        self.mixer.forward(x, sequences, false, &mut Noise::none())
    }

    /// As of [`Mixer::shares`].
    pub fn shares(&self, x: Tensor<2>) -> Option<Tensor<3>> {
        self.mixer.shares(x)
    }

    /// What the layer adds at [`Site::Mixer`] where its mixer sums values by `shares` and not by its own; of mixers that have such,
    /// where neither codes nor a norm stand behind.
    ///
    /// # Shapes
    /// `x: [T, D]`, of [`Site::Input`]; `shares: [H, T, T]` → `[T, D]`
    pub fn summed(&self, x: Tensor<2>, shares: Tensor<3>) -> Option<Tensor<2>> {
        if self.mixer_codes.is_some() || self.mixer_after.is_some() {
            return None;
        }
        let summed = self.mixer.summed(x, shares)?;
        Some(finish(summed, None, self.mixer_scale.as_ref()))
    }

    /// Its codebooks, by the names of their parameters in layer `name`.
    pub fn codebooks(&self, name: &str) -> Vec<(String, &Codebook)> {
        let both = [
            ("mixer_codes", &self.mixer_codes),
            ("ffn_codes", &self.ffn_codes),
        ];
        let found = both.into_iter().filter_map(|(part, codes)| {
            let codes = codes.as_ref()?;
            Some((format!("{name}.{part}.weight"), codes))
        });
        found.collect()
    }

    fn before(&self, norm: &AnyNorm, x: Tensor<2>) -> Tensor<2> {
        if self.norm_first { norm.forward(x) } else { x }
    }

    fn join(
        &self,
        norm: &AnyNorm,
        branch: Tensor<2>,
        residual: Option<Tensor<2>>,
        dropout: Dropout,
    ) -> Tensor<2> {
        if self.norm_first {
            op::dropout_add(branch, residual, dropout)
        } else {
            norm.add_forward(branch, residual, dropout)
        }
    }
}

/// What follows a branch before it joins.
fn finish(branch: Tensor<2>, norm: Option<&AnyNorm>, scale: Option<&Weight<1>>) -> Tensor<2> {
    let branch = match norm {
        Some(norm) => norm.forward(branch),
        None => branch,
    };
    match scale {
        Some(scale) => branch * scale.val().unsqueeze(),
        None => branch,
    }
}

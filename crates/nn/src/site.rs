use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;

/// A place of a stack of layers whose vectors can be read and overwritten: `[N, D]`, a row a token.
///
/// Where norms come before the branches, what a layer's mixer and feed-forward part add is the difference between the
/// residual stream before and after; where they come after the sums, the stream is what the norm makes of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The residual stream before the first layer.
    Embedding,
    /// What a layer's mixer is given.
    Input(usize),
    /// What a layer's mixer adds to the residual stream.
    Mixer(usize),
    /// The residual stream between a layer's mixer and feed-forward part, where it has both.
    Middle(usize),
    /// What a layer's feed-forward part adds to the residual stream.
    Ffn(usize),
    /// The residual stream after a layer.
    Layer(usize),
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => write!(f, "embedding"),
            Self::Input(layer) => write!(f, "layer.{layer}.input"),
            Self::Mixer(layer) => write!(f, "layer.{layer}.mixer"),
            Self::Middle(layer) => write!(f, "layer.{layer}.middle"),
            Self::Ffn(layer) => write!(f, "layer.{layer}.ffn"),
            Self::Layer(layer) => write!(f, "layer.{layer}"),
        }
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        let layer = parts.get(1).and_then(|layer| layer.parse().ok());
        let found = match (&parts[..], layer) {
            (["embedding"], _) => Some(Self::Embedding),
            (["layer", _], Some(layer)) => Some(Self::Layer(layer)),
            (["layer", _, "input"], Some(layer)) => Some(Self::Input(layer)),
            (["layer", _, "mixer"], Some(layer)) => Some(Self::Mixer(layer)),
            (["layer", _, "middle"], Some(layer)) => Some(Self::Middle(layer)),
            (["layer", _, "ffn"], Some(layer)) => Some(Self::Ffn(layer)),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "expected embedding, or layer.N, layer.N.input, layer.N.mixer, layer.N.middle or layer.N.ffn with N from 0, \
                 found {text:?}"
            )
        })
    }
}

/// What a site's vectors become.
type See<'a> = dyn FnMut(Site, Tensor<2>) -> Tensor<2> + 'a;
/// What the codes chosen at a site become, so many of each token.
type Choose<'a> = dyn FnMut(Site, usize, Vec<u32>) -> Vec<u32> + 'a;

/// Looks into a forward pass: it is shown the vectors of every site on the way, and the pass goes on with those that it gives
/// back.
pub struct Hook<'a> {
    see: Option<&'a mut See<'a>>,
    choose: Option<&'a mut Choose<'a>>,
    layer: usize,
}

impl<'a> Hook<'a> {
    /// Nothing is looked at, and nothing computed for it.
    pub const fn none() -> Self {
        Self {
            see: None,
            choose: None,
            layer: 0,
        }
    }

    /// Goes on with what `see` gives back for each site's vectors.
    pub fn new(see: &'a mut See<'a>) -> Self {
        Self {
            see: Some(see),
            choose: None,
            layer: 0,
        }
    }

    /// Shows `choose` the codes chosen at each site that has such, as many of each token as it says, token after token: numbers of
    /// rows of the table of codes. The pass goes on with those that it gives back.
    #[must_use]
    pub fn with_codes(self, choose: &'a mut Choose<'a>) -> Self {
        Self {
            choose: Some(choose),
            ..self
        }
    }

    /// The codes that go on from a site of the layer, `each` of a token.
    pub(crate) fn codes(
        &mut self,
        site: fn(usize) -> Site,
        each: usize,
        chosen: Vec<u32>,
    ) -> Vec<u32> {
        match &mut self.choose {
            Some(choose) => choose(site(self.layer), each, chosen),
            None => chosen,
        }
    }

    /// The sites that follow are of this layer.
    pub(crate) fn enter(&mut self, layer: usize) {
        self.layer = layer;
    }

    /// The vectors that go on from a site of the layer.
    pub(crate) fn at(&mut self, site: fn(usize) -> Site, x: Tensor<2>) -> Tensor<2> {
        match &mut self.see {
            Some(see) => see(site(self.layer), x),
            None => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_found_by_its_name() {
        let of = [
            Site::Input,
            Site::Mixer,
            Site::Middle,
            Site::Ffn,
            Site::Layer,
        ];
        for site in [Site::Embedding].into_iter().chain(of.map(|of| of(12))) {
            assert_eq!(site.to_string().parse(), Ok(site));
        }
        for wrong in [
            "",
            "layer",
            "layer.x",
            "layer.1.heads",
            "layer.1.ffn.2",
            "3",
        ] {
            assert!(wrong.parse::<Site>().is_err(), "{wrong}");
        }
    }
}

//! As many parameters for each mixer: what one lacks beside another, its feed-forward part has.

use anyhow::{Result, ensure};
use cloze_spec::mixer::{Mixer, Room};

/// The size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Layers.
    pub layers: usize,
    /// Channels of a token.
    pub width: usize,
    /// Feed-forward width beside the reference.
    pub ffn: usize,
    /// Longest sequence in tokens.
    pub max_len: usize,
}

/// A feed-forward width, and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// The width.
    pub ffn: usize,
    /// Parameters of all mixers and feed-forward parts.
    pub parameters: usize,
    /// Those of the reference.
    pub reference: usize,
}

impl Matched {
    /// How far it is off, as a share of the reference.
    pub fn off(self) -> f64 {
        self.parameters as f64 / self.reference as f64 - 1.0
    }
}

/// Feed-forward widths are multiples of this.
const STEP: usize = 4;

impl Shape {
    /// The feed-forward width at which a model of `mixer` has as many parameters as one of `reference`.
    ///
    /// # Errors
    /// When the mixer alone has about as many.
    pub fn matched(self, mixer: &Mixer, reference: &Mixer) -> Result<Matched> {
        let all = self.mixers(reference) + self.layers * self.feed_forward(self.ffn);
        let own = self.mixers(mixer);
        // Of a part of `F` channels: 2·D·F + F + D.
        let left = all.saturating_sub(own + self.layers * self.width) as f64;
        let channel = (self.layers * (2 * self.width + 1)) as f64;
        let ffn = STEP * (left / channel / STEP as f64).round() as usize;
        ensure!(
            ffn > 0,
            "expected a mixer of fewer than the {all} parameters that the reference has with its feed-forward parts, found one \
             of {own}; make it smaller"
        );
        Ok(Matched {
            ffn,
            parameters: own + self.layers * self.feed_forward(ffn),
            reference: all,
        })
    }

    fn mixers(self, mixer: &Mixer) -> usize {
        let room = Room {
            width: self.width,
            max_len: self.max_len,
        };
        let layers =
            (0..self.layers).map(|layer| mixer.of_layer(layer).parameters("mixer", room).0);
        let sizes = layers
            .flatten()
            .map(|parameter| parameter.shape.iter().product::<usize>());
        sizes.sum()
    }

    fn feed_forward(self, width: usize) -> usize {
        2 * self.width * width + width + self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        layers: 2,
        width: 64,
        ffn: 256,
        max_len: 100,
    };

    fn mixer(set: &str) -> Mixer {
        toml::from_str(set).unwrap()
    }

    #[test]
    fn what_a_mixer_lacks_its_feed_forward_part_has() {
        let attention = mixer("kind = 'attention'\nheads = 4\ncausal = false\ndropout = 0.0");
        let own = SHAPE.matched(&attention, &attention).unwrap();
        assert_eq!((own.ffn, own.parameters), (256, own.reference));
        // Four maps of attention, with biases, and a feed-forward part of 256 channels.
        assert_eq!(own.reference, 2 * (4 * 64 * 65 + 2 * 64 * 256 + 256 + 64));
        let none = SHAPE
            .matched(&mixer("kind = 'identity'"), &attention)
            .unwrap();
        assert_eq!(none.ffn, 384);
        assert!(none.off().abs() < 0.01, "{}", none.off());
        let layers = mixer(
            "kind = 'by-layer'\npattern = [{ kind = 'identity' }, { kind = 'attention', heads = 4, causal = false, dropout = 0.0 }]",
        );
        assert_eq!(SHAPE.matched(&layers, &attention).unwrap().ffn, 320);
    }

    #[test]
    fn a_mixer_that_leaves_no_room_is_refused() {
        let attention = mixer("kind = 'attention'\nheads = 4\ncausal = false\ndropout = 0.0");
        let wide = mixer("kind = 'token-mlp'\nwidth = 5000");
        let told = SHAPE.matched(&wide, &attention).unwrap_err().to_string();
        assert!(told.contains("make it smaller"), "{told}");
    }
}

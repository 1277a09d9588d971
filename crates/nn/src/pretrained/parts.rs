use burn::tensor::{Device, Tensor, TensorData};
use cloze_runtime::predict::Parts;
use cloze_spec::Encoder;
use cloze_spec::encoder::DropoutRates;
use cloze_spec::text::{self, Placed};

use super::engine::floats;
use super::readout::Texts;
use super::scaffold::Scaffold;
use crate::noise::Noise;
use crate::weights::{Source, Values};

/// What stands behind an encoder that another engine runs.
#[derive(Debug)]
pub struct BurnParts {
    scaffold: Scaffold,
    width: usize,
    device: Device,
}

impl BurnParts {
    /// Puts the parts of `scaffold` around `encoder` together.
    ///
    /// # Panics
    /// If `values` lack one of its parameters or have one of another length.
    pub fn new(
        encoder: &Encoder,
        scaffold: &text::Scaffold,
        values: &Values,
        device: &Device,
    ) -> Self {
        let parameters = scaffold.parameters(encoder).into_iter();
        let source = Source {
            values,
            shapes: parameters.map(|p| (p.name, p.shape)).collect(),
            device,
            lora_scale: 1.0,
        };
        Self {
            scaffold: Scaffold::new(scaffold, encoder, &source),
            width: encoder.width,
            device: device.clone(),
        }
    }

    fn states(&self, states: &[f32]) -> Tensor<2> {
        let shape = [states.len() / self.width, self.width];
        Tensor::from_data(TensorData::new(states.to_vec(), shape), &self.device)
    }
}

impl Parts for BurnParts {
    fn transcripts(&self, states: &[f32], offsets: &[u32]) -> Vec<(Vec<u32>, f64)> {
        let writer = self.scaffold.transcript.as_ref();
        let writer = writer.expect("the folder has what writes labels");
        writer.write(&self.states(states), offsets)
    }

    fn vector(&self, states: &[f32], segments: &[u32], beside: &[Placed]) -> Vec<f32> {
        let reader = self.scaffold.readout.as_ref();
        let reader = reader.expect("the folder has what reads states");
        let states = self.states(states);
        let texts = Texts {
            offsets: &[0, states.dims()[0] as u32],
            segments,
            beside,
        };
        floats(reader.forward(&states, texts, DropoutRates::NONE, &mut Noise::none()))
    }

    fn pooled(&self, windows: &[f32]) -> Vec<f32> {
        let scores = self.scaffold.chunks.as_ref();
        let scores = scores.expect("the folder has scores of windows");
        floats(scores.mean(self.states(windows)))
    }
}

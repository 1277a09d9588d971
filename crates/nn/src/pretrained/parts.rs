use burn::tensor::{Device, Tensor, TensorData};
use cloze_runtime::predict::Parts;
use cloze_spec::Encoder;
use cloze_spec::text;

use super::scaffold::Scaffold;
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
}

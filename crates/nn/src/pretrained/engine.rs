use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use cloze_runtime::model::Checkpoint;
use cloze_runtime::{Batch, Engine, Error, Rows, check};
use cloze_spec::Encoder;

use super::Pretrained;
use crate::op;
use crate::site::{Hook, Site};
use crate::weights::Values;

/// Runs pretrained encoders through Burn, on any device.
#[derive(Debug)]
pub struct BurnEngine {
    encoder: Arc<Encoder>,
    model: Pretrained,
    device: Device,
}

impl BurnEngine {
    /// The encoder of a folder.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub fn open(checkpoint: &Checkpoint, device: &Device) -> Result<Self, Error> {
        Ok(Self {
            model: Pretrained::open(checkpoint, device)?,
            encoder: Arc::new(checkpoint.encoder.clone()),
            device: device.clone(),
        })
    }

    /// Puts an engine together from the parameters of [`cloze_spec::inventory::encoder_parameters`].
    ///
    /// # Panics
    /// If `values` lack a parameter of the inventory or have one of another length.
    pub fn new(encoder: Encoder, values: &Values, device: &Device) -> Self {
        let encoder = Arc::new(encoder);
        Self {
            model: Pretrained::new(encoder.clone(), values, device),
            encoder,
            device: device.clone(),
        }
    }
}

impl Engine for BurnEngine {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn weight_bytes(&self) -> usize {
        self.model.num_params() * size_of::<f32>()
    }

    fn run(&self, batch: &Batch, rows: Rows<'_>, output: &mut Vec<f32>) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        output.clear();
        if batch.is_empty() {
            return Ok(());
        }
        let mut x = self.model.forward(batch, &mut Hook::none());
        if let Rows::Some(rows) = rows {
            x = op::select_rows(x, &rows.into());
        }
        output.extend(floats(x));
        Ok(())
    }

    fn trace(&self, batch: &Batch, see: &mut (dyn FnMut(&[f32]) + Send)) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut stage = |site, x: Tensor<2>| {
            if matches!(site, Site::Embedding | Site::Layer(_)) {
                see(&floats(x.clone()));
            }
            x
        };
        let last = self.model.forward(batch, &mut Hook::new(&mut stage));
        see(&floats(last));
        Ok(())
    }

    fn head(&self, vectors: &[f32], output: &mut Vec<f32>) -> Result<(), Error> {
        if self.encoder.head.is_none() {
            return Err(Error::Batch("this encoder has no head".to_owned()));
        }
        output.clear();
        let width = self.encoder.width;
        let shape = [vectors.len() / width, width];
        if shape[0] > 0 {
            let x = Tensor::from_data(TensorData::new(vectors.to_vec(), shape), &self.device);
            output.extend(floats(self.model.head(x)));
        }
        Ok(())
    }
}

pub(super) fn floats(x: Tensor<2>) -> Vec<f32> {
    x.into_data()
        .try_into_vec()
        .expect("encoders compute in f32")
}

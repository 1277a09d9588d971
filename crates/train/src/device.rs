use std::sync::Arc;

use burn::tensor::Device;
use cloze_nn::op::multiply_in_bf16;
use cloze_nn::pretrained::BurnEngine;
use cloze_runtime::cpu::Options;
use cloze_runtime::model::Checkpoint;
use cloze_runtime::{Engine, Error};
use cloze_spec::text::Precision;

use crate::text::refused;

/// Where tensors live: the CPU, or what the build has a GPU backend for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Burn's Flex backend with the kernels of `cloze-kernels`.
    #[default]
    Cpu,
    /// CUDA, by which Burn multiplies matrices of f32 in TF32.
    #[cfg(feature = "cuda")]
    Cuda,
    /// Metal.
    #[cfg(feature = "metal")]
    Metal,
    /// Vulkan.
    #[cfg(feature = "vulkan")]
    Vulkan,
}

/// How text models run where nothing else is said: on the CPU engine, or by Burn on the CPU where that engine does not run
/// them.
pub fn options() -> Options {
    Options {
        further: Some(|checkpoint| Place::Cpu.engine(checkpoint)),
        ..Options::default()
    }
}

impl Place {
    /// An engine there for the encoder of a folder.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub fn engine(self, checkpoint: &Checkpoint) -> Result<Arc<dyn Engine>, Error> {
        let engine = BurnEngine::open(checkpoint, &self.device())?;
        Ok(Arc::new(engine))
    }

    /// Whether this machine has it, as far as drivers show.
    pub fn is_here(self) -> bool {
        #[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan"))]
        use burn::tensor::DeviceType;
        match self {
            Self::Cpu => true,
            #[cfg(feature = "cuda")]
            Self::Cuda => !Device::enumerate(DeviceType::Cuda).is_empty(),
            #[cfg(feature = "metal")]
            Self::Metal => !Device::enumerate(DeviceType::Metal).is_empty(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => !Device::enumerate(DeviceType::Vulkan).is_empty(),
        }
    }

    /// Burn's name for it, once models there multiply in `precision`: from now on, all of this process.
    ///
    /// # Errors
    /// If it does not multiply so.
    pub fn in_precision(self, precision: Precision) -> Result<Device, crate::Error> {
        let device = self.device();
        if multiply_in_bf16(&device, precision == Precision::Bf16) {
            return Ok(device);
        }
        Err(refused(
            "stage.precision: expected \"f32\", since there is no bf16 where this trains, found \"bf16\"; newer GPUs have it (--device)"
                .to_owned(),
        ))
    }

    /// Burn's name for it.
    pub fn device(self) -> Device {
        match self {
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
            #[cfg(feature = "metal")]
            Self::Metal => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        }
    }
}

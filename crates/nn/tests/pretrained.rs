//! Pretrained encoders in Burn against their authors' numbers, and so against the CPU engine, which meets the same.

use std::path::Path;

use burn::tensor::Device;
use cloze_nn::pretrained::BurnEngine;
use cloze_runtime::golden::Golden;
use cloze_runtime::model::Checkpoint;
use cloze_spec::inventory::encoder_parameters;

/// Largest difference of any value, per root mean square of its stage: as for the CPU engine.
const LARGEST: f32 = 2e-5;

#[test]
fn every_family_gives_what_its_authors_code_gives() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden");
    let mut faults = Vec::new();
    let mut compared = 0;
    for entry in std::fs::read_dir(home).unwrap() {
        let folder = entry.unwrap().path();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let values = encoder_parameters(&checkpoint.encoder)
            .into_iter()
            .map(|parameter| {
                let mut values = vec![0.0; parameter.shape.iter().product()];
                checkpoint.read(&parameter, &mut values).unwrap();
                (parameter.name, values)
            });
        let engine = BurnEngine::new(
            checkpoint.encoder.clone(),
            &values.collect(),
            &Device::flex(),
        );
        let golden = Golden::read(&folder.join("golden.safetensors")).unwrap();
        let differences = golden.compare(&engine).unwrap();
        let far = differences.iter().filter(|found| found.largest > LARGEST);
        faults.extend(far.map(|found| format!("{}: {found:?}", folder.display())));
        compared += differences.len();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared > 200, "{compared} stages compared");
}

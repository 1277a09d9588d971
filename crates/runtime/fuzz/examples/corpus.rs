//! Writes valid files for each target to start from.

use std::path::Path;

use cloze_runtime_fuzz::corpus::corpus;
use cloze_runtime_fuzz::parser::PARSERS;

fn main() -> std::io::Result<()> {
    for parser in PARSERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(parser.name());
        std::fs::create_dir_all(&folder)?;
        for (number, bytes) in corpus(parser).into_iter().enumerate() {
            std::fs::write(folder.join(format!("valid-{number}")), bytes)?;
        }
    }
    Ok(())
}

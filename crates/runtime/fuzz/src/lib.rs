//! Searches for input that breaks the readers of `cloze-runtime`, guided by coverage.
//!
//! ```text
//! cargo run --example corpus            valid files to start from, into corpus/
//! cargo +nightly fuzz run torch         or any other target
//! ```

#[path = "../../tests/malformed/corpus.rs"]
pub mod corpus;
#[path = "../../tests/malformed/parser.rs"]
pub mod parser;
#[path = "../../tests/malformed/torch.rs"]
pub mod torch;

use std::path::Path;
use std::sync::LazyLock;

/// In memory where there is such a folder: a file is written for every input.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // The parsers may catch panics of their dependencies. The hook that the fuzzer sets ends the process before they
    // can; without it a panic that leaves the parser still does.
    std::panic::set_hook(Box::new(|_| {}));
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a temporary folder can be made")
});

/// One input.
pub fn run(parser: parser::Parser, bytes: &[u8]) {
    parser.run(bytes, FOLDER.path());
}

//! The program, as people run it, in a folder of its own.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::Path;
use std::process::{Command, Output};

pub fn cloze(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloze"))
        .args(arguments)
        .current_dir(folder)
        // No test asks a hub.
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap()
}

pub fn ok(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub fn error(output: &Output, code: i32) -> String {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stderr.clone()).unwrap()
}

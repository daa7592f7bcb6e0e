//! What a person sees, as data: each file in `tests/transcripts` holds command lines (`$`), what
//! came on stdout (`>`) and stderr (`!`), and the exit code (`?`). Set `SOTTO_BLESS=1` to write
//! them anew, and read the difference.

use std::fmt::Write;
use std::path::Path;

use crate::support::{Ran, sotto};

#[test]
fn people_see_what_the_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let written = std::fs::read_to_string(&path).unwrap();
        let seen = replay(&written);
        if std::env::var_os("SOTTO_BLESS").is_some() {
            std::fs::write(&path, seen).unwrap();
        } else {
            assert_eq!(written, seen, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 2);
}

/// Runs every command line of a transcript and writes down what came; comments stay.
fn replay(transcript: &str) -> String {
    let mut out = String::new();
    for line in transcript.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        }
        let Some(command) = line.strip_prefix("$ sotto") else {
            continue;
        };
        let ran = Ran::of(sotto(command.split_whitespace()).output().unwrap());
        writeln!(out, "{line}").unwrap();
        for (sign, text) in [('>', ran.text()), ('!', ran.stderr.as_str())] {
            for line in text.lines() {
                out.push_str(format!("{sign} {line}").trim_end());
                out.push('\n');
            }
        }
        writeln!(out, "? {}", ran.code.unwrap()).unwrap();
    }
    out
}

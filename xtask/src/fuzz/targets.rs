//! The targets with their decoders, and what each of them must have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Inputs for each decoder, without which it would begin in the dark.
const LEAST_INPUTS: usize = 3;

/// A program that is fuzzed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    /// Each of them is given each input.
    pub decoders: Vec<String>,
}

/// The targets in the order of the manifest, which is the order in which they run (Cargo itself
/// would sort them), with the decoders that the library lists for each.
pub fn list(source: &Path) -> Result<Vec<Target>> {
    let mut table = table(&fs::read_to_string(source.join("src/lib.rs"))?);
    let mut targets = Vec::new();
    for name in programs(source)? {
        let at = table.iter().position(|target| target.name == name);
        let at = at.with_context(|| format!("fuzz/src/lib.rs does not list {name}"))?;
        targets.push(table.swap_remove(at));
    }
    if let Some(target) = table.first() {
        bail!("fuzz/Cargo.toml has no program for {}", target.name);
    }
    Ok(targets)
}

/// The table of the library: `("target", &[("decoder", property), …])`, however it is spaced.
fn table(library: &str) -> Vec<Target> {
    let dense: String = library.split_whitespace().collect();
    let table = dense.split_once("TARGETS:").map_or("", |(_, rest)| rest);
    let table = table.split_once("];///").map_or(table, |(table, _)| table);
    let mut targets: Vec<Target> = Vec::new();
    for piece in table.split("(\"").skip(1) {
        let Some((name, rest)) = piece.split_once("\",") else {
            continue;
        };
        if rest.starts_with("&[") {
            targets.push(Target {
                name: name.to_owned(),
                decoders: Vec::new(),
            });
        } else if let Some(target) = targets.last_mut() {
            target.decoders.push(name.to_owned());
        }
    }
    targets
}

fn programs(source: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
    let programs = manifest.split("\n[[bin]]\n").skip(1);
    let name = |program: &str| {
        let line = program
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        Some(line?.trim_matches('"').to_owned())
    };
    let names: Option<Vec<String>> = programs.map(name).collect();
    names.context("a target in fuzz/Cargo.toml has no name")
}

/// Fails where a decoder lacks inputs to begin from or an ordinary test that replays those of its
/// target through it, or where a folder of inputs belongs to no target.
pub fn check(top: &Path) -> Result<()> {
    let source = top.join("fuzz");
    let targets = list(&source)?;
    let corpora: BTreeSet<String> = folders(&source.join("corpus"))?;
    let dictionaries: BTreeSet<String> = files(&source.join("dictionaries"))?;
    let tests = replaying_tests(top)?;
    let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
    let mut missing = Vec::new();
    for Target { name, decoders } in &targets {
        let count = match corpora.contains(name) {
            true => files(&source.join("corpus").join(name))?.len(),
            false => 0,
        };
        if count < LEAST_INPUTS * decoders.len() {
            missing.push(format!("fuzz/corpus/{name} holds only {count} inputs"));
        }
        for decoder in decoders {
            let entry = format!("\n{decoder} = \"");
            let files = manifest
                .split_once(&entry)
                .and_then(|(_, rest)| rest.split('"').next());
            match files {
                None => missing.push(format!("fuzz/Cargo.toml names no file of {decoder}")),
                Some(files) => {
                    let gone = files.split(' ').filter(|file| !top.join(file).is_file());
                    missing.extend(gone.map(|file| format!("{file}, of {decoder}, is gone")));
                }
            }
            if !is_replayed(&tests, name, decoder) {
                missing.push(format!(
                    "no test replays fuzz/corpus/{name} through {decoder}"
                ));
            }
        }
    }
    for name in corpora.iter().chain(&dictionaries) {
        if targets.iter().all(|target| target.name != *name) {
            missing.push(format!(
                "fuzz/ has inputs or words for {name}, but no such target"
            ));
        }
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    let decoders: usize = targets.iter().map(|target| target.decoders.len()).sum();
    println!(
        "{decoders} decoders in {} fuzz targets, each with inputs and a replaying test",
        targets.len()
    );
    Ok(())
}

/// Whether the text, without its spaces, has `replay("target", module::decoder)`.
fn is_replayed(tests: &str, target: &str, decoder: &str) -> bool {
    let call = format!("replay(\"{target}\",");
    let property = format!("::{decoder}");
    tests.split(&call).skip(1).any(|rest| {
        let argument = rest.split(')').next().unwrap_or_default();
        argument.trim_end_matches(',').ends_with(&property)
    })
}

/// The text of every `corpus.rs` among the tests, without its spaces.
fn replaying_tests(top: &Path) -> Result<String> {
    let mut text = String::new();
    for part in folders(top)? {
        let tests = top.join(&part).join("tests");
        let inside = folders(&tests)?;
        let inside = inside.iter().map(|folder| tests.join(folder));
        for folder in std::iter::once(tests.clone()).chain(inside) {
            let file = folder.join("corpus.rs");
            if file.is_file() {
                text.extend(fs::read_to_string(file)?.split_whitespace());
            }
        }
    }
    Ok(text)
}

fn folders(path: &Path) -> Result<BTreeSet<String>> {
    entries(path, |kind| kind.is_dir())
}

fn files(path: &Path) -> Result<BTreeSet<String>> {
    entries(path, |kind| kind.is_file())
}

fn entries(path: &Path, wanted: fn(&fs::FileType) -> bool) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if !path.is_dir() {
        return Ok(names);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if wanted(&entry.file_type()?) {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_run_in_the_order_of_the_manifest() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join("fuzz");
        let targets = list(&source).unwrap();
        assert_eq!(targets[0].name, "client_frame");
        let programs = fs::read_dir(source.join("fuzz_targets")).unwrap().count();
        assert_eq!(targets.len(), programs);
    }

    #[test]
    fn the_table_of_targets_is_read_however_it_is_spaced() {
        let library = r#"
            pub const TARGETS: [(&str, &[(&str, Property)]); 2] = [
                ("a", &[("a", wire::a)]),
                (
                    "pair",
                    &[
                        ("b", wire::b),
                        ("c", wire::c),
                    ],
                ),
            ];

            /// Not ("d", wire::d).
        "#;
        let target = |name: &str, decoders: &[&str]| Target {
            name: name.to_owned(),
            decoders: decoders.iter().map(ToString::to_string).collect(),
        };
        let expected = [target("a", &["a"]), target("pair", &["b", "c"])];
        assert_eq!(table(library), expected);
    }

    #[test]
    fn a_decoder_is_replayed_through_the_inputs_of_its_own_target() {
        let tests = r#"replay("pair",some::b);replay("pair",some::c,);"#;
        assert!(is_replayed(tests, "pair", "b") && is_replayed(tests, "pair", "c"));
        assert!(!is_replayed(tests, "pair", "a") && !is_replayed(tests, "c", "c"));
    }

    #[test]
    fn every_decoder_has_inputs_and_a_test_that_replays_them() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        check(top).unwrap();
    }
}

//! The targets, and what each of them must have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Inputs without which a target would begin in the dark.
const LEAST_INPUTS: usize = 3;

/// The targets' names in the order of the manifest, which is the order in which they run. Cargo
/// itself would sort them.
pub fn list(source: &Path) -> Result<Vec<String>> {
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

/// Fails where a target lacks inputs to begin from or an ordinary test that replays them, or where
/// a folder of inputs belongs to no target.
pub fn check(top: &Path) -> Result<()> {
    let source = top.join("fuzz");
    let names = list(&source)?;
    let corpora: BTreeSet<String> = folders(&source.join("corpus"))?;
    let dictionaries: BTreeSet<String> = files(&source.join("dictionaries"))?;
    let tests = replaying_tests(top)?;
    let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
    let library = fs::read_to_string(source.join("src/lib.rs"))?;
    let mut missing = Vec::new();
    for name in &names {
        let count = match corpora.contains(name) {
            true => files(&source.join("corpus").join(name))?.len(),
            false => 0,
        };
        if count < LEAST_INPUTS {
            missing.push(format!("fuzz/corpus/{name} holds only {count} inputs"));
        }
        let decoder = format!("\n{name} = \"");
        let files = manifest
            .split_once(&decoder)
            .and_then(|(_, rest)| rest.split('"').next());
        match files {
            None => missing.push(format!("fuzz/Cargo.toml names no decoder for {name}")),
            Some(files) => {
                let gone = files.split(' ').filter(|file| !top.join(file).is_file());
                missing.extend(gone.map(|file| format!("{file}, the decoder of {name}, is gone")));
            }
        }
        if !library.contains(&format!("(\"{name}\",")) {
            missing.push(format!("fuzz/src/lib.rs does not list {name}"));
        }
        if !tests.contains(&format!("\"{name}\"")) {
            missing.push(format!("no test replays fuzz/corpus/{name}"));
        }
    }
    for name in corpora.iter().chain(&dictionaries) {
        if !names.contains(name) {
            missing.push(format!(
                "fuzz/ has inputs or words for {name}, but no such target"
            ));
        }
    }
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    println!(
        "{} fuzz targets, each with inputs and a replaying test",
        names.len()
    );
    Ok(())
}

/// The text of every `corpus.rs` among the tests: they replay, by the names of the targets.
fn replaying_tests(top: &Path) -> Result<String> {
    let mut text = String::new();
    for part in folders(top)? {
        let tests = top.join(&part).join("tests");
        let inside = folders(&tests)?;
        let inside = inside.iter().map(|folder| tests.join(folder));
        for folder in std::iter::once(tests.clone()).chain(inside) {
            let file = folder.join("corpus.rs");
            if file.is_file() {
                text.push_str(&fs::read_to_string(file)?);
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
        let names = list(&source).unwrap();
        assert_eq!(names.first().map(String::as_str), Some("client_frame"));
        let programs = fs::read_dir(source.join("fuzz_targets")).unwrap().count();
        assert_eq!(names.len(), programs);
    }

    #[test]
    fn every_target_has_inputs_and_a_test_that_replays_them() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        check(top).unwrap();
    }
}

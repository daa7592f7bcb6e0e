//! What a target has found, made small.
//!
//! Two sets come out. `target/fuzz/corpus` keeps the least that shows everything found, how often
//! an edge is passed included: the next run begins there. `fuzz/corpus` is committed, replayed by
//! the ordinary tests and downloaded by everybody, so it is smaller: the seeds by hand, and the
//! least that passes every edge, as far as it fits [`COMMITTED_BYTES`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use super::Folders;
use super::targets::Target;

/// Bytes of found inputs that are committed for one decoder. Most need less; those of
/// long texts would grow for ever, by ever rarer edges. All of them together stay below what the
/// rest of the repository weighs.
const COMMITTED_BYTES: u64 = 96 * 1_024;
/// And how many: the replay in the ordinary tests is to take no time that anybody notices.
const COMMITTED_FILES: usize = 100;

/// How much a folder holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub files: usize,
    pub bytes: u64,
}

/// Minimises both sets after a run; their sizes. What is committed is bounded for each of the
/// target's decoders.
pub fn gather(folders: &Folders, program: &Path, target: &Target) -> Result<(Size, Size)> {
    let (name, decoders) = (&target.name, target.decoders.len());
    let (kept, committed) = (folders.kept(name), folders.committed(name));
    let log = folders.work.join("logs").join(format!("{name}.merge.log"));
    let fresh = folders.work.join("merge").join(name);
    empty(&fresh)?;
    merge(program, &log, &[], &fresh, &[&kept, &committed])?;
    // Replaced as a whole: whatever interrupts this, one of both is there.
    let old = folders.work.join("merge").join(format!("{name}.old"));
    remove(&old)?;
    fs::rename(&kept, &old)?;
    fs::rename(&fresh, &kept)?;
    remove(&old)?;

    let chosen = fresh;
    empty(&chosen)?;
    let found = folders.work.join("merge").join(format!("{name}.found"));
    empty(&found)?;
    for Input { path, .. } in files(&committed)? {
        let into = if is_found(&path) { &found } else { &chosen };
        fs::copy(&path, into.join(path.file_name().unwrap_or_default()))?;
    }
    // Edges alone, and what is committed already before what is new: it changes no more than it
    // must.
    let edges = ["-use_counters=0"];
    merge(program, &log, &edges, &chosen, &[&found])?;
    merge(program, &log, &edges, &chosen, &[&kept])?;
    let mut small = files(&chosen)?;
    small.retain(|input| is_found(&input.path));
    let bytes = u64::try_from(decoders)?.saturating_mul(COMMITTED_BYTES);
    let small = within(small, decoders.saturating_mul(COMMITTED_FILES), bytes);
    for Input { path, .. } in files(&committed)? {
        let stays = |input: &Input| input.path.file_name() == path.file_name();
        if is_found(&path) && !small.iter().any(stays) {
            fs::remove_file(&path)?;
        }
    }
    for Input { path, .. } in &small {
        let to = committed.join(path.file_name().unwrap_or_default());
        if !to.exists() {
            fs::copy(path, to)?;
        }
    }
    remove(&chosen)?;
    remove(&found)?;
    Ok((size(&kept)?, size(&committed)?))
}

/// Adds to `into` the fewest inputs of `from` that show all that those of both show.
fn merge(program: &Path, log: &Path, options: &[&str], into: &Path, from: &[&Path]) -> Result<()> {
    let status = Command::new("nice")
        .args(["-n", "19"])
        .arg(program)
        .args(["-set_cover_merge=1", "-timeout=600", "-rss_limit_mb=4096"])
        .args(options)
        .arg(into)
        .args(from)
        .stdout(Stdio::null())
        .stderr(fs::File::create(log)?)
        .status()
        .context("cannot start the target to minimise its inputs")?;
    if !status.success() {
        bail!("minimising ended with {status}; see {}", log.display());
    }
    Ok(())
}

/// Whether libFuzzer named it: by the SHA-1 of its bytes.
fn is_found(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The first of them, as far as the limits go. libFuzzer writes what it chooses in the order of how
/// much that adds, so the oldest file is the one that is missed most.
fn within(mut inputs: Vec<Input>, most: usize, bytes: u64) -> Vec<Input> {
    inputs.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    inputs.truncate(most);
    let mut left = bytes;
    inputs.retain(|input| {
        let fits = input.bytes <= left;
        if fits {
            left -= input.bytes;
        }
        fits
    });
    inputs
}

/// A file with an input.
#[derive(Debug, Clone)]
struct Input {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

fn files(folder: &Path) -> Result<Vec<Input>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            files.push(Input {
                path: entry.path(),
                bytes: about.len(),
                written: about.modified()?,
            });
        }
    }
    Ok(files)
}

fn size(folder: &Path) -> Result<Size> {
    let files = files(folder)?;
    Ok(Size {
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    })
}

fn empty(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir_all(folder)?;
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_bounded_and_seeds_by_hand_are_told_from_finds() {
        assert!(is_found(Path::new(
            "a/0123456789012345678901234567890123456abc"
        )));
        assert!(!is_found(Path::new("a/forged")) && !is_found(Path::new("a/0123")));
        let inputs: Vec<Input> = [("a", 50, 4), ("b", 10, 1), ("c", 60, 3), ("d", 20, 2)]
            .map(|(name, bytes, seconds)| Input {
                path: name.into(),
                bytes,
                written: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
            })
            .to_vec();
        let names = |most, bytes| -> Vec<String> {
            let chosen = within(inputs.clone(), most, bytes);
            let names = chosen.iter().map(|input| input.path.display().to_string());
            names.collect()
        };
        assert_eq!(names(9, 1_000), ["b", "d", "c", "a"]);
        assert_eq!(names(3, 1_000), ["b", "d", "c"]);
        assert_eq!(names(9, 80), ["b", "d", "a"]);
        assert_eq!(names(9, 79), ["b", "d"]);
    }
}

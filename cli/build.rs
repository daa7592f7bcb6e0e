//! Tells the program which commit it was built from.

use std::path::Path;
use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    // In a source archive inside somebody else's repository, git would name that one's commit.
    let is_ours = git(&["ls-files", "build.rs"]).is_some();
    let commit = is_ours
        .then(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .flatten()
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SOTTO_COMMIT={commit}");
    println!("cargo::rerun-if-changed=build.rs");
    // The log of HEAD grows with each commit. Only what is released must be exact to the commit;
    // while developing, a commit alone builds nothing again.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release && is_ours {
        let log = git(&[
            "rev-parse",
            "--path-format=absolute",
            "--git-path",
            "logs/HEAD",
        ]);
        if let Some(log) = log.filter(|log| Path::new(log).exists()) {
            println!("cargo::rerun-if-changed={log}");
        }
    }
}

//! Who may import whom (`ARCHITECTURE.md`, "Arrows"). The compiler guards what a manifest allows;
//! this guards the manifests, and the one arrow inside a crate that no manifest shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::step::output;
use crate::tools::cargo;

/// What one member of the workspace may depend on among our own crates.
struct Layer {
    name: &'static str,
    /// In the program itself.
    may_use: &'static [&'static str],
    /// In its tests besides.
    tests_may_use: &'static [&'static str],
}

const LAYERS: [Layer; 9] = [
    Layer {
        name: "wire",
        may_use: &[],
        tests_may_use: &[],
    },
    Layer {
        name: "crypto",
        may_use: &["wire"],
        tests_may_use: &[],
    },
    Layer {
        name: "client-core",
        may_use: &["wire", "crypto"],
        // Its sockets are tested against the real servers.
        tests_may_use: &["sotto-relay", "sotto-files"],
    },
    // The servers' tests need signed events and sealed wraps to serve.
    Layer {
        name: "sotto-relay",
        may_use: &["wire"],
        tests_may_use: &["crypto"],
    },
    Layer {
        name: "sotto-files",
        may_use: &["wire"],
        tests_may_use: &["crypto"],
    },
    // The two servers only to embed them in `demo` and `up`.
    Layer {
        name: "sotto",
        may_use: &["client-core", "sotto-relay", "sotto-files"],
        tests_may_use: &[],
    },
    Layer {
        name: "xtask",
        may_use: &[],
        tests_may_use: &[],
    },
    Layer {
        name: "bench",
        may_use: &[
            "wire",
            "crypto",
            "client-core",
            "sotto-relay",
            "sotto-files",
        ],
        tests_may_use: &[],
    },
    Layer {
        name: "e2e",
        may_use: &[
            "wire",
            "crypto",
            "client-core",
            "sotto-relay",
            "sotto-files",
        ],
        tests_may_use: &[],
    },
];

/// Third-party crates that must not be reachable from a crate, by any path.
const UNREACHABLE: [(&str, &[&str]); 4] = [
    ("wire", NO_INPUT_OUTPUT),
    ("crypto", NO_INPUT_OUTPUT),
    ("sotto-relay", &["rusqlite", "nostr"]),
    ("sotto-files", &["rusqlite", "nostr"]),
];

/// No network, no database, and no logging: what holds secrets cannot write them anywhere.
const NO_INPUT_OUTPUT: &[&str] = &[
    "tokio",
    "mio",
    "hyper",
    "axum",
    "tungstenite",
    "rusqlite",
    "fjall",
    "tracing",
    "log4rs",
    "tracing-subscriber",
    "env_logger",
];

/// Third-party crates that only some of ours may name.
const NAMED_ONLY_BY: [(&str, &[&str]); 3] = [
    // Replacing the Nostr crate is then the review of one crate; bench compares against it.
    ("nostr", &["crypto", "bench"]),
    ("rusqlite", &["client-core"]),
    // The two ends of a comparison, each behind one type that bounds it.
    ("negentropy", &["client-core", "sotto-relay"]),
];

/// Words that must not stand in the code under a folder.
const FORBIDDEN_WORDS: [(&str, &[&str]); 3] = [
    // The engine decides; a seed replays it only if it reads no clock and opens no socket.
    (
        "client-core/src/engine",
        &[
            "runtime::",
            "tokio",
            "std::net",
            "std::fs",
            "SystemTime",
            "Instant::now",
            "SysRng",
        ],
    ),
    (
        "client-core/src/store",
        &[
            "runtime::",
            "tokio",
            "std::net",
            "SystemTime",
            "Instant::now",
        ],
    ),
    (
        "wire/src",
        &["std::net::Tcp", "std::fs", "SystemTime", "Instant::now"],
    ),
];

/// Checks every rule; the error lists all that are broken.
pub fn check(top: &Path) -> Result<()> {
    let metadata = output(
        cargo()
            .current_dir(top)
            .args(["metadata", "--format-version", "1"]),
    )?;
    let graph = Graph::read(&serde_json::from_str(&metadata)?)?;
    let mut broken = graph.broken_rules();
    for (folder, words) in FORBIDDEN_WORDS {
        broken.extend(words_found(top, folder, words)?);
    }
    for member in &graph.members {
        let manifest = top.join(member.folder(top)?).join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        if !text.contains("[lints]\nworkspace = true") {
            broken.push(format!(
                "{} does not take the workspace's lints",
                member.name
            ));
        }
    }
    if !broken.is_empty() {
        bail!("{} broken:\n  {}", broken.len(), broken.join("\n  "));
    }
    println!("{} crates keep to their layers", graph.members.len());
    Ok(())
}

/// What `cargo metadata` says, as far as the rules need it.
struct Graph {
    members: Vec<Member>,
    /// Package id to the ids of what it links (tests' own dependencies left out).
    links: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
}

struct Member {
    id: String,
    name: String,
    manifest: PathBuf,
    /// Names of direct dependencies, for the program and for its tests.
    uses: BTreeSet<String>,
    tests_use: BTreeSet<String>,
}

impl Member {
    fn folder(&self, top: &Path) -> Result<PathBuf> {
        let folder = self
            .manifest
            .parent()
            .context("a manifest lies in a folder")?;
        Ok(folder.strip_prefix(top).unwrap_or(folder).to_owned())
    }
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let member_ids: BTreeSet<&str> = list(metadata, "workspace_members")?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let mut members = Vec::new();
        let mut names = BTreeMap::new();
        for package in list(metadata, "packages")? {
            let id = text(package, "id")?;
            let name = text(package, "name")?;
            names.insert(id.to_owned(), name.to_owned());
            if !member_ids.contains(id) {
                continue;
            }
            let mut member = Member {
                id: id.to_owned(),
                name: name.to_owned(),
                manifest: text(package, "manifest_path")?.into(),
                uses: BTreeSet::new(),
                tests_use: BTreeSet::new(),
            };
            for dependency in list(package, "dependencies")? {
                let list = match dependency.get("kind").and_then(Value::as_str) {
                    Some("dev") => &mut member.tests_use,
                    _ => &mut member.uses,
                };
                list.insert(text(dependency, "name")?.to_owned());
            }
            members.push(member);
        }
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let resolve = metadata
            .get("resolve")
            .context("cargo metadata has no resolve")?;
        for node in list(resolve, "nodes")? {
            let linked = links.entry(text(node, "id")?.to_owned()).or_default();
            for dependency in list(node, "deps")? {
                // Normal dependencies have a null kind; build scripts and tests are not linked.
                let is_linked = list(dependency, "dep_kinds")?
                    .iter()
                    .any(|kind| kind.get("kind").is_some_and(Value::is_null));
                if is_linked {
                    linked.insert(text(dependency, "pkg")?.to_owned());
                }
            }
        }
        Ok(Self {
            members,
            links,
            names,
        })
    }

    fn broken_rules(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let ours: BTreeSet<&str> = self
            .members
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        for member in &self.members {
            let Some(layer) = LAYERS.iter().find(|layer| layer.name == member.name) else {
                broken.push(format!(
                    "{} has no layer; give it one in xtask",
                    member.name
                ));
                continue;
            };
            for used in member
                .uses
                .iter()
                .filter(|name| ours.contains(name.as_str()))
            {
                if !layer.may_use.contains(&used.as_str()) {
                    broken.push(format!("{} must not import {used}", member.name));
                }
            }
            for used in member
                .tests_use
                .iter()
                .filter(|name| ours.contains(name.as_str()))
            {
                let used = used.as_str();
                if !layer.may_use.contains(&used) && !layer.tests_may_use.contains(&used) {
                    broken.push(format!(
                        "the tests of {} must not import {used}",
                        member.name
                    ));
                }
            }
            for (third_party, allowed) in NAMED_ONLY_BY {
                if member.uses.contains(third_party) && !allowed.contains(&member.name.as_str()) {
                    broken.push(format!("{} must not name {third_party}", member.name));
                }
            }
            if let Some((_, unreachable)) =
                UNREACHABLE.iter().find(|(name, _)| *name == member.name)
            {
                let reachable = self.reachable(&member.id);
                for name in unreachable.iter().filter(|name| reachable.contains(**name)) {
                    broken.push(format!(
                        "{} reaches {name} through its dependencies",
                        member.name
                    ));
                }
            }
        }
        broken
    }

    /// The names of everything that the package links.
    fn reachable(&self, id: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            for linked in self.links.get(id).into_iter().flatten() {
                if seen.insert(linked.as_str()) {
                    open.push(linked);
                }
            }
        }
        seen.into_iter()
            .filter_map(|id| self.names.get(id).map(String::as_str))
            .collect()
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("cargo metadata has no list {key}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata has no text {key}"))
}

/// Lines of code (comments aside) under `folder` that hold one of `words`.
fn words_found(top: &Path, folder: &str, words: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in rust_files(&top.join(folder))? {
        let source = fs::read_to_string(&file)?;
        for (number, line) in (1..).zip(source.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                let file = file.strip_prefix(top).unwrap_or(&file).display();
                found.push(format!("{file}:{number} must not know {word}"));
            }
        }
    }
    Ok(found)
}

/// Every `.rs` file under a folder, in order; none where the folder is absent.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                let is_ours = name != "target" && name != "node_modules" && name != ".git";
                if is_ours {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str, Option<&str>)]) -> Graph {
        let mut names: BTreeSet<&str> = LAYERS.iter().map(|layer| layer.name).collect();
        let members: Vec<&str> = names.iter().copied().collect();
        names.extend(edges.iter().flat_map(|(from, to, _)| [*from, *to]));
        let of = |name: &str| {
            edges
                .iter()
                .filter(move |(from, ..)| *from == name)
                .collect::<Vec<_>>()
        };
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<Value> = of(name)
                    .iter()
                    .map(|(_, to, kind)| serde_json::json!({"name": to, "kind": kind}))
                    .collect();
                serde_json::json!({"id": format!("id {name}"), "name": name,
                    "manifest_path": "/x/Cargo.toml", "dependencies": dependencies})
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = of(name)
                    .iter()
                    .map(|(_, to, kind)| {
                        serde_json::json!({"pkg": format!("id {to}"), "dep_kinds": [{"kind": kind}]})
                    })
                    .collect();
                serde_json::json!({"id": format!("id {name}"), "deps": deps})
            })
            .collect();
        let members: Vec<String> = members.iter().map(|name| format!("id {name}")).collect();
        Graph::read(&serde_json::json!({
            "workspace_members": members, "packages": packages, "resolve": {"nodes": nodes}
        }))
        .unwrap()
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        let graph = graph(&[
            ("crypto", "wire", None),
            ("client-core", "crypto", None),
            ("client-core", "tokio", None),
            ("sotto", "sotto-relay", None),
            ("sotto-relay", "crypto", Some("dev")),
        ]);
        assert_eq!(graph.broken_rules(), Vec::<String>::new());
    }

    #[test]
    fn a_server_that_imports_secrets_is_refused() {
        let graph = graph(&[("sotto-relay", "crypto", None)]);
        assert_eq!(graph.broken_rules(), ["sotto-relay must not import crypto"]);
    }

    #[test]
    fn a_network_under_crypto_is_found_behind_two_others() {
        let graph = graph(&[
            ("crypto", "wire", None),
            ("wire", "harmless", None),
            ("harmless", "tokio", None),
        ]);
        let broken = graph.broken_rules();
        assert!(broken.contains(&"crypto reaches tokio through its dependencies".to_owned()));
        assert!(broken.contains(&"wire reaches tokio through its dependencies".to_owned()));
    }

    #[test]
    fn an_engine_that_reads_the_clock_is_found_and_its_comments_are_not() {
        let top = tempfile::tempdir().unwrap();
        let engine = top.path().join("client-core/src/engine");
        fs::create_dir_all(&engine).unwrap();
        fs::write(
            engine.join("send.rs"),
            "// never SystemTime\nlet now = std::time::SystemTime::now();\n",
        )
        .unwrap();
        let (folder, words) = FORBIDDEN_WORDS[0];
        assert_eq!(
            words_found(top.path(), folder, words).unwrap(),
            ["client-core/src/engine/send.rs:2 must not know SystemTime"]
        );
    }
}

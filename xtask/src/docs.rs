//! Whether the documents still name what exists: files, links between documents, and the test
//! behind every rule in `docs/behaviour/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::layers::rust_files;

/// Checks every document; the error lists all that is broken.
///
/// - A Markdown link to a file must lead to one.
/// - A path to a Rust, SQL or Markdown file, in backticks or in a fenced block, must be the path,
///   or the end of the path, of a file of the repository.
/// - Any other path in backticks must exist if it begins with a folder of the repository.
/// - A document that the sources name (`docs/protocol/keys.md`) must exist.
/// - Every rule of `docs/behaviour/*.md` has at least one test: one whose name begins with the
///   rule's id (`F-UP-1`: `f_up_1_...`), or one that the rule names in backticks.
/// - No two of those rules have one id.
/// - A longer name in backticks in such a rule occurs in the sources, so that a renamed test or a
///   setting that is gone is found.
pub fn check(top: &Path) -> Result<()> {
    let documents = documents(top)?;
    let repository = Repository::read(top)?;
    let mut broken = Vec::new();
    let mut rules = BTreeSet::new();
    for document in &documents {
        let text = fs::read_to_string(document)?;
        let name = document.strip_prefix(top).unwrap_or(document);
        let folder = document.parent().unwrap_or(top);
        for (number, mention) in mentions(&text) {
            if !repository.has(folder, &mention) {
                let place = format!("{}:{number}", name.display());
                broken.push(match mention {
                    Mention::Link(target) => {
                        format!("{place} links to {target}, which is not there")
                    }
                    Mention::Path(path) => format!("{place} names {path}, which is not there"),
                });
            }
        }
        if name.starts_with("docs/behaviour") {
            for rule in behaviour_rules(&text) {
                let place = format!("{}:{}", name.display(), rule.line);
                if !rules.insert(rule.id.clone()) {
                    broken.push(format!("{place} rule {} is there already", rule.id));
                }
                if !repository.has_test_of(&rule) {
                    broken.push(format!("{place} rule {} has no test", rule.id));
                }
                let is_gone = |name: &&String| !repository.names.contains(*name);
                for name in rule.names.iter().filter(is_gone) {
                    broken.push(format!(
                        "{place} names {name}, which is nowhere in the sources"
                    ));
                }
            }
        }
    }
    for file in rust_files(top)? {
        let name = file.strip_prefix(top).unwrap_or(&file);
        for (number, path) in documents_named(&fs::read_to_string(&file)?) {
            if !top.join(&path).is_file() {
                let place = format!("{}:{number}", name.display());
                broken.push(format!("{place} names {path}, which is not there"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("{} broken:\n  {}", broken.len(), broken.join("\n  "));
    }
    println!(
        "{} documents hold; {} rules have their tests",
        documents.len(),
        rules.len()
    );
    Ok(())
}

/// Our Markdown files: those at the top and everything under `docs`.
fn documents(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![top.join("docs")];
    for entry in fs::read_dir(top)? {
        let path = entry?.path();
        if is_markdown(&path) {
            found.push(path);
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_markdown(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Something in a document that claims a file exists.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mention {
    /// The target of a Markdown link, relative to the document's folder.
    Link(String),
    /// A path in backticks or in a fenced block, relative to the top.
    Path(String),
}

/// The files and tests that there are.
struct Repository {
    top: PathBuf,
    /// Paths of source files and documents, from the top, with a leading slash.
    files: Vec<String>,
    tests: BTreeSet<String>,
    /// Every name in the sources that a rule may speak of.
    names: BTreeSet<String>,
}

impl Repository {
    fn read(top: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut tests = BTreeSet::new();
        let mut names = BTreeSet::new();
        for file in rust_files(top)? {
            let source = fs::read_to_string(&file)?;
            tests.extend(test_names(&source));
            let words = source.split(|c: char| !is_name_part(c));
            names.extend(words.filter(|word| is_long_name(word)).map(str::to_owned));
            files.push(file);
        }
        files.extend(documents(top)?);
        let migrations = top.join("client-core/src/store/migrations");
        if migrations.is_dir() {
            for entry in fs::read_dir(migrations)? {
                files.push(entry?.path());
            }
        }
        let from_top =
            |path: &PathBuf| format!("/{}", path.strip_prefix(top).unwrap_or(path).display());
        Ok(Self {
            top: top.to_owned(),
            files: files.iter().map(from_top).collect(),
            tests,
            names,
        })
    }

    fn has_test_of(&self, rule: &Rule) -> bool {
        let id = rule.id.to_ascii_lowercase().replace(['-', '.'], "_");
        let prefix = format!("{id}_");
        self.tests.iter().any(|test| test.starts_with(&prefix))
            || rule.names.iter().any(|name| self.tests.contains(name))
    }

    fn has(&self, folder: &Path, mention: &Mention) -> bool {
        match mention {
            Mention::Link(target) => folder.join(target).exists(),
            Mention::Path(path) if is_source(path) => {
                let end = format!("/{path}");
                self.files.iter().any(|file| file.ends_with(&end))
            }
            Mention::Path(path) => {
                let first = path.split('/').next().unwrap_or_default();
                !self.top.join(first).is_dir() || self.top.join(path).exists()
            }
        }
    }
}

fn is_source(path: &str) -> bool {
    [".rs", ".sql", ".md"].iter().any(|end| path.ends_with(end))
}

/// Everything in a document that claims a file exists, with its line.
fn mentions(text: &str) -> Vec<(usize, Mention)> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if is_fenced {
            let paths = line
                .split_whitespace()
                .filter(|word| word.ends_with(".rs") && is_path(word));
            found.extend(paths.map(|path| (number, Mention::Path(path.to_owned()))));
            continue;
        }
        // In Markdown, every second piece between backticks is code.
        for code in line.split('`').skip(1).step_by(2) {
            if code.contains('/') && is_path(code) {
                found.push((number, Mention::Path(code.trim_end_matches('/').to_owned())));
            }
        }
        for after in line.split("](").skip(1) {
            let target = after.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                found.push((number, Mention::Link(target.to_owned())));
            }
        }
    }
    found
}

/// The documents that comments of a source file name, with their lines.
fn documents_named(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        let Some((_, comment)) = line.split_once("//") else {
            continue;
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let words = comment.split(|c: char| !is_part(c));
        let paths = words.filter(|word| word.starts_with("docs/") && word.ends_with(".md"));
        found.extend(paths.map(|path| (number, path.to_owned())));
    }
    found
}

/// Plain paths only: no globs, placeholders, URLs, options or numbers.
fn is_path(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    word.chars().all(is_plain)
        && word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase() || c == '.')
        && !word.starts_with("./")
        && !word.starts_with("..")
}

/// One rule of a behaviour document.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    line: usize,
    id: String,
    /// Names in backticks that may be a test's or a setting's.
    names: Vec<String>,
}

/// The rules of a behaviour document.
///
/// A rule is a list item, table row or heading that begins with an id such as **R-07** or
/// `relay.auth-3`: letters, then digits. What follows belongs to it, up to the next rule.
fn behaviour_rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mark = content.trim_start_matches(['-', '*', '#', '|', '`', ' ']);
        let id: String = mark
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.')
            .collect();
        let id = id.trim_end_matches('.');
        let begins = content.starts_with(['-', '*', '#', '|']);
        if begins && is_rule_id(id) {
            rules.push(Rule {
                line,
                id: id.to_owned(),
                names: Vec::new(),
            });
        }
        if let Some(rule) = rules.last_mut() {
            let codes = content.split('`').skip(1).step_by(2);
            let names = codes
                .filter_map(|code| code.rsplit("::").next())
                .filter(|name| name.chars().all(is_name_part) && is_long_name(name));
            rule.names.extend(names.map(str::to_owned));
        }
    }
    rules
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// Long enough to be nothing but a name: shorter ones are also words and tags.
fn is_long_name(word: &str) -> bool {
    word.matches('_').count() >= 2
}

fn is_rule_id(word: &str) -> bool {
    let Some((prefix, number)) = word.rsplit_once('-') else {
        return false;
    };
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    is_number && prefix.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The names of the test functions in a source file.
fn test_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines() {
        let line = line.trim_start();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            continue;
        }
        let declaration = line
            .trim_start_matches("pub ")
            .trim_start_matches("async ")
            .strip_prefix("fn ");
        if let Some(declaration) = declaration {
            if is_test {
                let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                names.push(declaration.chars().take_while(is_name).collect());
            }
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_are_found_and_prose_is_not() {
        let text = "See [this](docs/a.md#part) and [that](https://example.org/x).\n\
            The file `relay/src/ingest.rs`, `application/json`, `--home DIR`, `a/*.rs`.\n\
            ```\n-> engine/send.rs   who\n```\n";
        let path = |text: &str| Mention::Path(text.to_owned());
        assert_eq!(
            mentions(text),
            [
                (1, Mention::Link("docs/a.md".to_owned())),
                (2, path("relay/src/ingest.rs")),
                (2, path("application/json")),
                (4, path("engine/send.rs")),
            ]
        );
    }

    #[test]
    fn a_named_file_that_is_gone_breaks_the_check() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("docs/behaviour")).unwrap();
        fs::create_dir_all(top.path().join("relay/src")).unwrap();
        fs::write(top.path().join("relay/src/ingest.rs"), "").unwrap();
        fs::write(
            top.path().join("README.md"),
            "`relay/src/ingest.rs` `application/json`",
        )
        .unwrap();
        check(top.path()).unwrap();
        fs::write(
            top.path().join("README.md"),
            "\n`relay/src/gone.rs` `relay/none`",
        )
        .unwrap();
        let error = check(top.path()).unwrap_err().to_string();
        assert!(
            error.contains("README.md:2 names relay/src/gone.rs"),
            "{error}"
        );
        assert!(error.contains("README.md:2 names relay/none"), "{error}");
    }

    #[test]
    fn a_document_that_a_comment_names_must_exist() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("docs")).unwrap();
        // Put together here, since this file is checked too.
        let folder = "docs";
        let source = format!("/// As `{folder}/a.md` says.\nlet x = \"{folder}/none.md\";\n");
        fs::write(top.path().join("lib.rs"), source).unwrap();
        let error = check(top.path()).unwrap_err().to_string();
        assert!(error.contains("1 broken:\n  lib.rs:1 names "), "{error}");
        fs::write(top.path().join("docs/a.md"), "").unwrap();
        check(top.path()).unwrap();
    }

    #[test]
    fn a_rule_without_its_test_breaks_the_check() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("docs/behaviour")).unwrap();
        let source = "#[test]\nfn a_wrap_has_one_recipient() {}\nfn not_a_test_here() {}\n";
        fs::write(top.path().join("lib.rs"), source).unwrap();
        let rules = top.path().join("docs/behaviour/relay.md");
        fs::write(&rules, "- **R-1** One `p`.\n  `a_wrap_has_one_recipient`\n").unwrap();
        check(top.path()).unwrap();
        fs::write(&rules, "| A-WR-1 | One `p`. |\n").unwrap();
        assert!(check(top.path()).is_err());
        let source = format!("{source}#[test]\nfn a_wr_1_one_recipient() {{}}\n");
        fs::write(top.path().join("lib.rs"), source).unwrap();
        check(top.path()).unwrap();
        fs::write(
            &rules,
            "- **R-1** One `p`. `not_a_test_here`\n- **R-2** `a_test_of_old`.\n",
        )
        .unwrap();
        let error = check(top.path()).unwrap_err().to_string();
        assert!(error.contains("rule R-1 has no test"), "{error}");
        assert!(error.contains("rule R-2 has no test"), "{error}");
        assert!(error.contains("names a_test_of_old"), "{error}");
    }

    #[test]
    fn two_rules_of_one_id_break_the_check() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("docs/behaviour")).unwrap();
        let source = "#[test]\nfn a_wr_1_one_recipient() {}\n";
        fs::write(top.path().join("lib.rs"), source).unwrap();
        let rules = top.path().join("docs/behaviour");
        fs::write(rules.join("relay.md"), "| A-WR-1 | One `p`. |\n").unwrap();
        check(top.path()).unwrap();
        fs::write(rules.join("client.md"), "\n| A-WR-1 | Two. |\n").unwrap();
        let error = check(top.path()).unwrap_err().to_string();
        assert!(error.contains("rule A-WR-1 is there already"), "{error}");
    }
}

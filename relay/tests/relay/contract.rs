//! The program says to programs what `docs/relay-cli.md` says it does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::crash::{Program, binary};
use crate::operator::Operated;
use crate::support::{Client, person};

const PAGE: &str = include_str!("../../../docs/relay-cli.md");

/// A field as the page describes it.
struct Field {
    types: Vec<String>,
    is_optional: bool,
}

/// The page's tables of fields, by schema.
fn documented() -> BTreeMap<String, BTreeMap<String, Field>> {
    let mut schemas: BTreeMap<String, BTreeMap<String, Field>> = BTreeMap::new();
    let mut current = None;
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("### `") {
            current = title.strip_suffix('`').map(str::to_owned);
            schemas.entry(current.clone().unwrap()).or_default();
        }
        let (Some(schema), Some(row)) = (&current, line.strip_prefix("| `")) else {
            continue;
        };
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap().trim_end_matches('`').to_owned();
        let types = cells.next().unwrap();
        let is_optional = types.ends_with(", optional");
        let types = types.trim_end_matches(", optional").split(" or ");
        let field = Field {
            types: types.map(str::to_owned).collect(),
            is_optional,
        };
        schemas.get_mut(schema).unwrap().insert(name, field);
    }
    schemas
}

/// Exit code by word.
pub fn codes() -> BTreeMap<String, i32> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| "));
    let mut codes = BTreeMap::new();
    for row in rows {
        let mut cells = row.split(" | ");
        let Ok(code) = cells.next().unwrap().parse() else {
            continue;
        };
        let words = cells.next().unwrap().split(", ");
        codes.extend(words.map(|word| (word.trim_matches('`').to_owned(), code)));
    }
    codes
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Everything that was printed.
#[derive(Default)]
struct Printed(Vec<Value>);

impl Printed {
    /// Runs a command to its end; its error's word has the documented exit code.
    fn run(&mut self, arguments: &[&str]) -> Vec<Value> {
        let mut command = binary();
        command.arg("--json").args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let lines = |bytes: &[u8]| -> Vec<Value> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let told = lines(&output.stdout);
        let errors = lines(&output.stderr);
        let error = errors
            .iter()
            .find(|object| object["schema"] == "sotto.error/1");
        let wanted = error.map_or(0, |error| codes()[error["error"].as_str().unwrap()]);
        assert_eq!(
            output.status.code(),
            Some(wanted),
            "{arguments:?} {errors:?}"
        );
        self.0.extend(told.iter().cloned().chain(errors));
        told
    }
}

#[tokio::test]
async fn r_prog_14_what_programs_read_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, other, lines) = (path("data"), path("other"), path("all.jsonl"));
    let key = person(1).key().to_hex();
    let mut printed = Printed::default();
    let mut run = |arguments: &[&str]| printed.run(arguments);

    run(&["version"]);
    run(&["init"]);
    run(&["init", "--config", &path("relay.toml")]);
    run(&["init", "--config", &path("relay.toml")]);
    run(&["frobnicate"]);
    run(&["user", "list", "--data", &data]);
    std::fs::create_dir(&data).unwrap();
    // Everybody may write, so this warns.
    run(&["user", "add", &key, "--note", "Ada", "--data", &data]);
    let made = run(&["user", "invite", "--data", &data]);
    let policy = format!(
        "server.public_urls = [\"wss://relay.example\"]\npolicy.write = \"members\"\n\
         policy.members = [\"{}\"]",
        person(3).key().to_hex()
    );
    std::fs::write(path("urls.toml"), policy).unwrap();
    let urls = path("urls.toml");
    run(&["user", "invite", "--data", &data, "--config", &urls]);
    run(&["user", "list", "--data", &data, "--config", &urls]);
    let code = made[0]["code"].as_str().unwrap();
    run(&["user", "revoke", code, "--data", &data]);
    run(&["user", "revoke", code, "--data", &data]);
    run(&["user", "remove", &key, "--data", &data]);
    run(&["user", "ban", &key, "--note", "spam", "--data", &data]);
    run(&["user", "list", "--data", &data]);
    run(&["user", "unban", &key, "--data", &data]);
    run(&["check", "ws://127.0.0.1:1"]);

    let program = Program::start(Path::new(&data));
    let note = person(2).note("here");
    Client::connect(&program.url).await.put(&note).await;
    run(&["check", &program.url]);
    run(&["export", "--data", &data]);
    run(&["run", "--listen", "127.0.0.1:0", "--data", &data]);
    program.signal("-TERM");
    let mut program = program;
    program.child.wait().unwrap();
    run(&["export", "--data", &data, "-o", &lines]);
    run(&["import", "--data", &other, &lines]);
    std::fs::write(&lines, "junk\n").unwrap();
    run(&["import", "--data", &other, &lines]);
    run(&["compact", "--data", &other]);
    std::fs::write(Path::new(&other).join("roster.json"), "junk").unwrap();
    run(&["user", "list", "--data", &other]);
    let operated = Operated::start("metrics.listen = \"127.0.0.1:0\"");
    printed.0.push(operated.listening.clone());

    let documented = documented();
    let mut seen = BTreeSet::new();
    let mut fields = BTreeSet::new();
    for object in &printed.0 {
        let schema = object["schema"].as_str().unwrap();
        let described = documented.get(schema);
        let described = described.unwrap_or_else(|| panic!("{schema} is not described"));
        seen.insert(schema.to_owned());
        let object = object.as_object().unwrap();
        for (name, value) in object.iter().filter(|(name, _)| *name != "schema") {
            let field = described.get(name);
            let field = field.unwrap_or_else(|| panic!("{name} of {schema} is not described"));
            let found = type_of(value);
            let is_right = field.types.iter().any(|wanted| wanted == found);
            assert!(is_right, "{name} of {schema} is {found}");
            fields.insert((schema.to_owned(), name.clone()));
        }
        for (name, field) in described {
            let is_there = field.is_optional || object.contains_key(name);
            assert!(is_there, "{schema} without {name}");
        }
    }
    // And nothing is described that no command prints.
    for (schema, described) in &documented {
        assert!(seen.contains(schema), "{schema} was not printed");
        for name in described.keys() {
            let field = (schema.clone(), name.clone());
            assert!(
                fields.contains(&field),
                "{name} of {schema} was not printed"
            );
        }
    }
    let words = printed
        .0
        .iter()
        .filter_map(|object| object["error"].as_str());
    let words: BTreeSet<&str> = words.collect();
    for word in [
        "usage",
        "unreachable",
        "partly_done",
        "not_found",
        "conflict",
        "store_damaged",
    ] {
        assert!(words.contains(word), "no command failed with {word}");
    }
}

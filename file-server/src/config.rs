//! What an operator may set: a TOML file becomes a checked [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wire::limits;
use wire::relay_url::Origin;

/// The port the server listens on where nothing else is said.
pub const DEFAULT_PORT: u16 = 7448;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The address under which others reach the server; tokens for its host are accepted, and
    /// the URLs of blobs begin with it.
    pub public_url: Option<Origin>,
    /// Further hosts, with or without port, whose tokens are accepted.
    pub names: Vec<String>,
    /// The folder that holds everything.
    pub data: PathBuf,
    /// What one person, one connection and everybody together may use.
    pub limits: Limits,
}

/// What one person, one connection and everybody together may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest blob, bytes.
    pub blob_bytes: u64,
    /// All blobs together, bytes; an upload beyond it is refused, nothing is pushed out for it.
    pub total_bytes: u64,
    /// Bytes that stay free on the disk.
    pub keep_free_bytes: u64,
    /// The longest life of a claim, seconds; `None` for as long as the client asks.
    pub max_age_seconds: Option<u64>,
    /// Uploads of one key at the same time.
    pub uploads_per_key: u32,
    /// Uploads at the same time.
    pub uploads: u32,
    /// Open connections.
    pub connections: u32,
    /// Open connections of one address; loopback is exempt, for a reverse proxy sits there.
    pub connections_per_address: u32,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a transfer may stand still in either direction.
    pub idle_timeout: Duration,
    /// Bytes per second that an upload must keep up on average once [`Limits::upload_grace`]
    /// has passed.
    pub upload_bytes_per_second: u64,
    /// What an upload may fall behind that average.
    pub upload_grace: Duration,
    /// How often expired blobs are looked for; they are unreadable at their second regardless.
    pub sweep_interval: Duration,
    /// How long a stop waits for transfers that are under way.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A film, encrypted; memory does not grow with it.
            blob_bytes: 4 * 1024 * 1024 * 1024,
            total_bytes: 100 * 1024 * 1024 * 1024,
            keep_free_bytes: 256 * 1024 * 1024,
            max_age_seconds: None,
            uploads_per_key: 4,
            // With a buffer of 128 KiB each, 64 MiB at worst.
            uploads: 512,
            connections: 1_024,
            connections_per_address: 64,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            // Slower than any mobile network that still moves a photo, faster than an attack
            // that wants to hold a place for hours.
            upload_bytes_per_second: 1_024,
            upload_grace: Duration::from_secs(20),
            // Deleted must mean gone within 60 s, a slow disk included.
            sweep_interval: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a configuration was refused. The text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, a key that is not known, or a value of the wrong type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A value that makes no sense.
    #[error("`{key}`: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// The file as it is written; every key may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Option<String>,
    public_url: Option<String>,
    names: Option<Vec<String>>,
    data: Option<PathBuf>,
    max_blob_bytes: Option<u64>,
    max_total_bytes: Option<u64>,
    keep_free_bytes: Option<u64>,
    max_age_seconds: Option<u64>,
    uploads_per_key: Option<u32>,
    uploads: Option<u32>,
    connections: Option<u32>,
    connections_per_address: Option<u32>,
    header_timeout_seconds: Option<u64>,
    idle_timeout_seconds: Option<u64>,
    upload_bytes_per_second: Option<u64>,
    upload_grace_seconds: Option<u64>,
}

impl Config {
    /// The defaults, with everything under `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)),
            public_url: None,
            names: Vec::new(),
            data: data.into(),
            limits: Limits::default(),
        }
    }

    /// Reads a file's text. `default_data` is used where it names no folder.
    pub fn parse(text: &str, default_data: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)?;
        let mut config = Self::new(raw.data.unwrap_or_else(|| default_data.into()));
        if let Some(listen) = raw.listen {
            config.listen = parse_listen(&listen)?;
        }
        if let Some(url) = raw.public_url {
            config.public_url = Some(parse_public_url(&url)?);
        }
        config.names = raw.names.unwrap_or_default();
        for name in &mut config.names {
            if name.is_empty() || name.len() > limits::URL_BYTES || name.contains('/') {
                return Err(value("names", format!("`{name}` is no host")));
            }
            name.make_ascii_lowercase();
        }
        let limits = &mut config.limits;
        set(&mut limits.blob_bytes, raw.max_blob_bytes);
        set(&mut limits.total_bytes, raw.max_total_bytes);
        set(&mut limits.keep_free_bytes, raw.keep_free_bytes);
        limits.max_age_seconds = raw.max_age_seconds.filter(|seconds| *seconds > 0);
        at_least_one(
            &mut limits.uploads_per_key,
            raw.uploads_per_key,
            "uploads_per_key",
        )?;
        at_least_one(&mut limits.uploads, raw.uploads, "uploads")?;
        at_least_one(&mut limits.connections, raw.connections, "connections")?;
        at_least_one(
            &mut limits.connections_per_address,
            raw.connections_per_address,
            "connections_per_address",
        )?;
        seconds(
            &mut limits.header_timeout,
            raw.header_timeout_seconds,
            "header_timeout_seconds",
        )?;
        seconds(
            &mut limits.idle_timeout,
            raw.idle_timeout_seconds,
            "idle_timeout_seconds",
        )?;
        set(
            &mut limits.upload_bytes_per_second,
            raw.upload_bytes_per_second,
        );
        seconds(
            &mut limits.upload_grace,
            raw.upload_grace_seconds,
            "upload_grace_seconds",
        )?;
        if limits.blob_bytes > wire::limits::FILE_BYTES {
            let most = wire::limits::FILE_BYTES;
            return Err(value(
                "max_blob_bytes",
                format!("no client makes more than {most}"),
            ));
        }
        Ok(config)
    }

    /// The example file: every key with its default and what it means.
    pub fn example() -> String {
        let mut text = String::from(
            "# Configuration of sotto-files. Every key may be left out; these are the defaults.\n\
             # A key that is not listed here is refused.\n",
        );
        for (key, meaning, default) in keys() {
            text.push('\n');
            for line in meaning.lines() {
                text.push_str("# ");
                text.push_str(line.trim());
                text.push('\n');
            }
            text.push_str(&format!("{}\n", default.replace("KEY", key)));
        }
        text
    }

    /// The names by which tokens may call this server when it listens on `port`, lower case:
    /// the loopback names, the host of the public URL and the further names, each with and
    /// without its port.
    pub fn server_names(&self, port: u16) -> Vec<String> {
        let mut names = Vec::new();
        for host in ["127.0.0.1", "localhost", "[::1]"] {
            names.push(host.to_owned());
            names.push(format!("{host}:{port}"));
        }
        if let Some(url) = &self.public_url {
            names.push(url.host());
            names.push(format!("{}:{}", url.host(), url.port()));
        }
        names.extend(self.names.iter().cloned());
        names
    }
}

/// Reads `address:port`.
pub fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        value(
            "listen",
            format!("`{text}` is no address like 127.0.0.1:7448"),
        )
    })
}

/// Reads the URL under which others reach the server.
pub fn parse_public_url(text: &str) -> Result<Origin, ConfigError> {
    Origin::parse(text).map_err(|_| {
        let problem = format!("`{text}` is no URL like https://files.example, without a path");
        value("public_url", problem)
    })
}

fn value(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        problem: problem.into(),
    }
}

fn set<T>(target: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *target = wanted;
    }
}

fn at_least_one(
    target: &mut u32,
    wanted: Option<u32>,
    key: &'static str,
) -> Result<(), ConfigError> {
    if wanted == Some(0) {
        return Err(value(key, "0 would serve nobody"));
    }
    set(target, wanted);
    Ok(())
}

fn seconds(
    target: &mut Duration,
    wanted: Option<u64>,
    key: &'static str,
) -> Result<(), ConfigError> {
    // Beyond a day a limit is none, and clocks overflow far later.
    if wanted.is_some_and(|seconds| seconds == 0 || seconds > 86_400) {
        return Err(value(key, "must lie between 1 and 86400"));
    }
    set(target, wanted.map(Duration::from_secs));
    Ok(())
}

/// Key, meaning, and the line that sets the default.
fn keys() -> Vec<(&'static str, &'static str, String)> {
    let limits = Limits::default();
    let number = |n: u64| format!("KEY = {n}");
    vec![
        (
            "listen",
            "Where to listen. Port 0 picks a free one. TLS belongs to a reverse proxy in front.",
            format!("KEY = \"127.0.0.1:{DEFAULT_PORT}\""),
        ),
        (
            "public_url",
            "The address under which others reach this server, without a path. Upload and delete\n\
             tokens are accepted for its host, and the URLs of blobs begin with it.",
            "# KEY = \"https://files.example\"".to_owned(),
        ),
        (
            "names",
            "Further hosts (\"host\" or \"host:port\") whose tokens are accepted.",
            "KEY = []".to_owned(),
        ),
        (
            "data",
            "The folder that holds everything; the platform's data folder if left out.\n\
             Deleted blobs are overwritten in place, which reaches the medium only where the\n\
             file system does not copy on write.",
            "# KEY = \"/var/lib/sotto-files\"".to_owned(),
        ),
        (
            "max_blob_bytes",
            "The largest blob.",
            number(limits.blob_bytes),
        ),
        (
            "max_total_bytes",
            "All blobs together. Uploads beyond it are refused; nothing is pushed out for them.",
            number(limits.total_bytes),
        ),
        (
            "keep_free_bytes",
            "Bytes that stay free on the disk.",
            number(limits.keep_free_bytes),
        ),
        (
            "max_age_seconds",
            "The longest time a blob is kept; clients are told in the Sunset header. 0 keeps it as\n\
             long as its uploader asks.",
            number(limits.max_age_seconds.unwrap_or(0)),
        ),
        (
            "uploads_per_key",
            "Uploads of one key at the same time.",
            number(limits.uploads_per_key.into()),
        ),
        (
            "uploads",
            "Uploads at the same time.",
            number(limits.uploads.into()),
        ),
        (
            "connections",
            "Open connections.",
            number(limits.connections.into()),
        ),
        (
            "connections_per_address",
            "Open connections of one address. Loopback is exempt: a reverse proxy sits there.",
            number(limits.connections_per_address.into()),
        ),
        (
            "header_timeout_seconds",
            "How long the head of a request may take to arrive.",
            number(limits.header_timeout.as_secs()),
        ),
        (
            "idle_timeout_seconds",
            "How long a transfer may stand still.",
            number(limits.idle_timeout.as_secs()),
        ),
        (
            "upload_bytes_per_second",
            "What an upload must keep up on average.",
            number(limits.upload_bytes_per_second),
        ),
        (
            "upload_grace_seconds",
            "What an upload may fall behind that average.",
            number(limits.upload_grace.as_secs()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_defaults_and_lists_every_key() {
        let example = Config::example();
        assert_eq!(Config::parse(&example, "d").unwrap(), Config::new("d"));
        let every_key_set: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") => rest,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let raw: Raw = toml::from_str(&every_key_set).unwrap();
        let unset = format!("{raw:?}").matches("None").count();
        assert_eq!(unset, 0, "a key is missing from the example");
    }

    #[test]
    fn the_example_file_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/sotto-files.example.toml");
        let file = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            file,
            Config::example(),
            "run `sotto-files init --config {path}`"
        );
    }

    #[test]
    fn unknown_keys_and_nonsense_are_refused_by_name() {
        let table = [
            ("max_blob_byte = 1", "max_blob_byte"),
            ("listen = \"everywhere\"", "listen"),
            ("public_url = \"https://h/path\"", "public_url"),
            ("names = [\"https://h/\"]", "names"),
            ("uploads = 0", "uploads"),
            ("idle_timeout_seconds = 0", "idle_timeout_seconds"),
            ("max_blob_bytes = -1", "max_blob_bytes"),
            ("max_blob_bytes = 68719476737", "max_blob_bytes"),
        ];
        for (text, key) in table {
            let error = Config::parse(text, "d").unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_answers_to_its_own_names_only() {
        let config = Config::parse("public_url = \"https://Files.Example\"", "d").unwrap();
        let names = config.server_names(7448);
        for name in [
            "127.0.0.1",
            "localhost:7448",
            "[::1]:7448",
            "files.example",
            "files.example:443",
        ] {
            assert!(names.iter().any(|own| own == name), "{name}");
        }
        assert!(!names.iter().any(|own| own == "localhost:7447"));
    }
}

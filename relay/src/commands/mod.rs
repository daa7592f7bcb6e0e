//! What the commands share: configuration from arguments, output, failures.

pub mod check;
pub mod data;
pub mod run;
pub mod transfer;
pub mod user;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use sotto_relay::config::{Config, ConfigError, Raw, Storage};
use sotto_relay::roster::RosterError;
use sotto_relay::server::ServerError;
use sotto_relay::store::StoreError;
use sotto_relay::tls::TlsError;
use wire::RelayUrl;

use crate::Place;

/// What helps with a setting.
const SETTINGS: &str = "`sotto-relay init` prints every setting and what it means";

/// How to talk to whoever called.
pub struct Say {
    /// One JSON object per line.
    pub json: bool,
    /// No warnings.
    pub quiet: bool,
}

impl Say {
    /// A result: `object` or `text`, on stdout. A broken pipe ends quietly.
    pub fn out(&self, object: &Value, text: &str) {
        let mut stdout = std::io::stdout();
        let _ = match self.json {
            true => writeln!(stdout, "{object}"),
            false => writeln!(stdout, "{text}"),
        };
        let _ = stdout.flush();
    }

    /// A warning, on stderr.
    pub fn warn(&self, text: &str) {
        let mut stderr = std::io::stderr();
        let _ = match (self.quiet, self.json) {
            (true, _) => Ok(()),
            (false, true) => {
                writeln!(
                    stderr,
                    "{}",
                    json!({"schema": "sotto.warning/1", "detail": text})
                )
            }
            (false, false) => writeln!(stderr, "warning: {text}"),
        };
    }
}

/// The stable words of `sotto.error/1` that this program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Usage,
    Unreachable,
    PartlyDone,
    NotFound,
    Conflict,
    StoreDamaged,
    DiskFull,
    Interrupted,
    Internal,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::PartlyDone => "partly_done",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::StoreDamaged => "store_damaged",
            Self::DiskFull => "disk_full",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// As the table of exit codes says.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::DiskFull | Self::Internal => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::PartlyDone => 5,
            Self::NotFound => 7,
            Self::Conflict => 9,
            Self::StoreDamaged => 11,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The stable word.
    pub word: Word,
    /// The file that it is about.
    file: Option<String>,
    detail: String,
    hint: &'static str,
}

impl Failure {
    pub fn new(word: Word, detail: impl ToString) -> Self {
        let hint = match word {
            Word::Usage => "see --help",
            Word::Conflict => "stop the other server, or choose another port or folder",
            Word::StoreDamaged => "restore the data folder from a backup, or start an empty one",
            Word::DiskFull => "free some space; nothing was half-written",
            _ => "",
        };
        Self {
            word,
            file: None,
            detail: detail.to_string(),
            hint,
        }
    }

    /// What went wrong, in words, and in which file.
    pub fn detail(&self) -> String {
        match &self.file {
            Some(file) => format!("{file}: {}", self.detail),
            None => self.detail.clone(),
        }
    }

    /// About this file.
    pub fn about_file(mut self, path: &Path) -> Self {
        self.file = Some(path.display().to_string());
        self
    }

    /// Where there is more to say than of every failure of its kind.
    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }

    /// Where the detail says what to do.
    pub fn without_hint(mut self) -> Self {
        self.hint = "";
        self
    }

    pub fn to_json(&self) -> Value {
        json!({
            "schema": "sotto.error/1",
            "error": self.word.as_str(),
            "detail": self.detail(),
            "hint": self.hint,
        })
    }

    pub fn to_text(&self) -> String {
        match self.hint {
            "" => format!("error: {}", self.detail()),
            hint => format!("error: {} ({hint})", self.detail()),
        }
    }
}

const MAY_NOT: &str = "this user may not: run it as the one that it belongs to";

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let word = match &error {
            StoreError::DiskFull => Word::DiskFull,
            StoreError::InUse => Word::Conflict,
            StoreError::Damaged(_) => Word::StoreDamaged,
            _ => Word::Internal,
        };
        Self::new(word, error)
    }
}

impl From<RosterError> for Failure {
    fn from(error: RosterError) -> Self {
        let word = match &error {
            RosterError::Damaged => Word::StoreDamaged,
            RosterError::Newer | RosterError::Busy => Word::Conflict,
            RosterError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Word::DiskFull
            }
            _ => Word::Internal,
        };
        let may_not = matches!(&error, RosterError::Io(error)
            if error.kind() == std::io::ErrorKind::PermissionDenied);
        match Self::new(word, error) {
            failure if may_not => failure.with_hint(MAY_NOT),
            // The text says what to do.
            failure => failure.without_hint(),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Store(error) => error.into(),
            ServerError::Roster(error) => error.into(),
            ServerError::Io(error) => error.into(),
            ServerError::Tls(error) => error.into(),
            ServerError::Metrics(address, error) => {
                on_address(&format!("metrics.listen {address}"), &error)
            }
            other => Self::new(Word::Internal, other),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        let word = match &error {
            TlsError::Missing(_) => Word::NotFound,
            _ => Word::Usage,
        };
        // The text names the file.
        Self::new(word, error).without_hint()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Word::Usage, error.to_string().trim_end()).with_hint(SETTINGS)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let word = match error.kind() {
            std::io::ErrorKind::StorageFull => Word::DiskFull,
            std::io::ErrorKind::NotFound => Word::NotFound,
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::AddrInUse => Word::Conflict,
            _ => Word::Internal,
        };
        let failure = Self::new(word, &error);
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => failure.with_hint(MAY_NOT),
            _ => failure,
        }
    }
}

/// The checked configuration: file, then command line.
pub fn configuration(
    place: Place,
    listen: Option<String>,
    public_urls: Vec<String>,
) -> Result<Config, Failure> {
    let file = match &place.config {
        Some(path) => Some(ConfigFile::read(path)?),
        None => None,
    };
    let mut raw = match &file {
        Some(file) => Raw::parse(&file.text).map_err(|error| file.refused(error))?,
        None => Raw::default(),
    };
    // Checked here as well, so that the text names the option and not the setting.
    if let Some(listen) = listen {
        if listen.parse::<SocketAddr>().is_err() {
            let why = format!("--listen {listen}: not an address with a port");
            return Err(Failure::new(Word::Usage, why));
        }
        raw.server.listen = listen;
    }
    for url in public_urls {
        if let Err(error) = RelayUrl::parse(&url) {
            let why = format!("--public-url {url}: {error}");
            return Err(Failure::new(Word::Usage, why));
        }
        raw.server.public_urls.push(url);
    }
    let checked = |raw: Raw, data: PathBuf| match &file {
        Some(file) => raw.check(data).map_err(|error| file.refused(error)),
        None => raw.check(data).map_err(Failure::from),
    };
    if let Some(data) = place.data {
        // A folder whose name is no UTF-8 has no place in a TOML file, and needs none here.
        raw.server.data = String::new();
        return folder_of(checked(raw, data)?);
    }
    let data = match directories::ProjectDirs::from("", "", "sotto-relay") {
        Some(folders) => folders.data_dir().to_owned(),
        None if raw.server.data.is_empty() => {
            return Err(Failure::new(
                Word::Usage,
                "no home folder: name one with --data",
            ));
        }
        None => PathBuf::new(),
    };
    folder_of(checked(raw, data)?)
}

/// The configuration's file, to say of an error where in it that is.
struct ConfigFile<'p> {
    path: &'p Path,
    text: String,
}

impl<'p> ConfigFile<'p> {
    fn read(path: &'p Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| on_file(path, &error))?;
        Ok(Self { path, text })
    }

    fn refused(&self, error: ConfigError) -> Failure {
        Failure::from(error.at_line_of(&self.text)).about_file(self.path)
    }
}

/// Refuses data that would be kept in something else than a folder.
fn folder_of(config: Config) -> Result<Config, Failure> {
    match &config.storage {
        Storage::Disk { folder, .. } if folder.exists() && !folder.is_dir() => Err(Failure::new(
            Word::Usage,
            format!("{} is no folder", folder.display()),
        )
        .without_hint()),
        _ => Ok(config),
    }
}

/// A failure with the file that it is about.
pub fn on_file(path: &Path, error: &std::io::Error) -> Failure {
    let mut failure = Failure::from(std::io::Error::from(error.kind())).about_file(path);
    failure.detail = error.to_string();
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            failure.with_hint("choose another name, or move that file away")
        }
        _ => failure,
    }
}

const LOW_PORT: &str = "a port below 1024 takes root or CAP_NET_BIND_SERVICE, which the unit for \
                        systemd gives: choose another (--listen, server.listen or metrics.listen)";
const NO_ADDRESS: &str = "this machine has no such address: name one of its own, or [::] for all of \
                          them (--listen, server.listen or metrics.listen)";

/// A failure to listen, where `what` names the address and what sets it.
pub fn on_address(what: &str, error: &std::io::Error) -> Failure {
    let mut failure = Failure::from(std::io::Error::from(error.kind()));
    failure.detail = format!("{what}: {error}");
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            failure.with_hint("stop the program that listens there, or choose another port")
        }
        std::io::ErrorKind::PermissionDenied => failure.with_hint(LOW_PORT),
        std::io::ErrorKind::AddrNotAvailable => failure.with_hint(NO_ADDRESS),
        _ => failure,
    }
}

/// `10s`, `500ms`, `2m`, `12h`, `7d`, or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration such as 10s, 500ms or 2m".to_owned();
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(index) => text.split_at_checked(index).ok_or_else(wrong)?,
        None => (text, "s"),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = |each| Duration::from_secs(number.saturating_mul(each));
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => return Err(wrong()),
    };
    match duration.is_zero() {
        true => Err(wrong()),
        false => Ok(duration),
    }
}

/// `init`: the example configuration.
pub fn init(say: &Say, config: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let example = Raw::example();
    let Some(path) = config else {
        let object = json!({"schema": "sotto.config/1", "config": example});
        // The line end comes with the output.
        say.out(&object, example.strip_suffix('\n').unwrap_or(&example));
        return Ok(ExitCode::SUCCESS);
    };
    let mut file = std::fs::File::create_new(&path).map_err(|error| on_file(&path, &error))?;
    file.write_all(example.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| on_file(&path, &error))?;
    let shown = path.display().to_string();
    say.out(&json!({"schema": "sotto.config/1", "path": shown}), &shown);
    Ok(ExitCode::SUCCESS)
}

/// `version`.
pub fn version(say: &Say) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("SOTTO_COMMIT").unwrap_or_default();
    let text = match commit {
        "" => format!("sotto-relay {version}"),
        commit => format!("sotto-relay {version} ({commit})"),
    };
    let object = json!({"schema": "sotto.version/1", "version": version, "commit": commit});
    say.out(&object, &text);
    Ok(ExitCode::SUCCESS)
}

//! The program `sotto-files`: arguments, logging, run; nothing else.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use sotto_files::check::{self, CheckError};
use sotto_files::config::{self, ConfigError};
use sotto_files::storage::{DiskStorage, Storage as _, StorageError};
use sotto_files::{Config, FileServer, StartError};
use wire::relay_url::Origin;

/// Stores encrypted blobs over HTTP (Blossom).
#[derive(Debug, Parser)]
#[command(name = "sotto-files", disable_version_flag = true)]
struct Arguments {
    /// One JSON object on stdout instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// More in the log on stderr; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C.
    Run {
        /// The configuration file; without it everything has its default.
        #[arg(long, value_name = "F")]
        config: Option<PathBuf>,
        /// The folder that holds everything.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Where to listen; port 0 picks a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
        /// The address under which others reach this server.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
    },
    /// Write the example configuration.
    Init {
        /// To this file instead of stdout; it must not exist yet.
        #[arg(long, value_name = "F")]
        config: Option<PathBuf>,
    },
    /// Try a running server out, from outside, with a probe that is deleted again.
    Check {
        /// Its address, for example https://files.example
        url: String,
        /// How long each request may take, for example 10s.
        #[arg(long, value_name = "D", default_value = "30s", value_parser = duration)]
        timeout: Duration,
    },
    /// Read every blob of a stopped server and compare it with its hash.
    Verify {
        /// The folder that holds everything.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Erase what has expired in the data of a stopped server.
    Gc {
        /// The folder that holds everything.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Say which version this is.
    Version,
}

/// A failure that has an exit code and a stable word of its own.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
struct Failure {
    code: u8,
    word: &'static str,
    detail: String,
}

impl Failure {
    fn of(code: u8, word: &'static str, detail: impl ToString) -> anyhow::Error {
        let detail = detail.to_string();
        Self { code, word, detail }.into()
    }

    fn usage(detail: impl ToString) -> anyhow::Error {
        Self::of(2, "usage", detail)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    log_to_stderr(arguments.verbose, arguments.json);
    let json = arguments.json;
    match execute(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(report(json, &error)),
    }
}

/// Help goes to stdout; everything else that clap says is a usage error, an object under
/// `--json` as well.
fn refuse(error: &clap::Error) -> ExitCode {
    // The options could not be read as a whole, so the one that matters here is looked for.
    let json = std::env::args_os()
        .take_while(|word| word != "--")
        .any(|word| word == "--json");
    if error.use_stderr() && json {
        let text = error.to_string();
        let detail = text.split("\n\nUsage:").next().unwrap_or_default();
        let detail = detail.trim_start_matches("error: ");
        let words: Vec<&str> = detail.split_whitespace().collect();
        return ExitCode::from(report(json, &Failure::usage(words.join(" "))));
    }
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Says on stderr what went wrong, and gives the exit code.
fn report(json: bool, error: &anyhow::Error) -> u8 {
    let (code, word) = match error.downcast_ref::<Failure>() {
        Some(failure) => (failure.code, failure.word),
        None => (1, "internal"),
    };
    let mut stderr = std::io::stderr();
    // Where stderr is gone there is nobody left to tell.
    let _ = if json {
        let schema = "sotto.error/1";
        let detail = format!("{error:#}");
        let object = json!({ "schema": schema, "error": word, "detail": detail });
        writeln!(stderr, "{object}")
    } else {
        writeln!(stderr, "sotto-files: {error:#}")
    };
    code
}

fn execute(arguments: Arguments) -> anyhow::Result<u8> {
    let json = arguments.json;
    match arguments.command {
        Command::Run {
            config,
            data,
            listen,
            public_url,
        } => {
            let config = load(config.as_deref(), data, listen, public_url)?;
            raise_file_limit();
            block_on(run(config, json))
        }
        Command::Init { config } => init(config.as_deref(), json),
        Command::Check { url, timeout } => {
            let url = Origin::parse(&url).map_err(Failure::usage)?;
            block_on(run_check(url, timeout, json))
        }
        Command::Verify { data } => verify(&open(data)?, json),
        Command::Gc { data } => gc(&open(data)?, json),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let commit = option_env!("SOTTO_COMMIT").unwrap_or("unknown");
            let object = json!({
                "schema": "sotto.version/1", "version": version, "commit": commit,
            });
            say(json, &object, &format!("sotto-files {version} ({commit})"))?;
            Ok(0)
        }
    }
}

async fn run(config: Config, json: bool) -> anyhow::Result<u8> {
    // Listening for signals before the address is announced: whoever reads it may stop us.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let data = config.data.display().to_string();
    let server = FileServer::start(config)
        .await
        .map_err(|error| match error {
            StartError::PortBusy(_) | StartError::DataBusy => Failure::of(9, "conflict", error),
            StartError::Storage(StorageError::Full) => Failure::of(1, "disk_full", error),
            other => other.into(),
        })?;
    let url = server.url();
    let object = json!({
        "schema": "sotto.listening/1", "url": url, "pid": std::process::id(),
    });
    let text = format!(
        "listening on {url}, data in {data}\n\
         Deleted blobs are overwritten in place; a file system that copies on write, a drive \
         that remaps, snapshots and backups may keep them."
    );
    say(json, &object, &text)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(0)
}

fn init(path: Option<&Path>, json: bool) -> anyhow::Result<u8> {
    let example = Config::example();
    let Some(path) = path else {
        say(
            json,
            &json!({ "schema": "sotto.config/1", "config": example }),
            example.trim_end(),
        )?;
        return Ok(0);
    };
    let created = std::fs::File::create_new(path).and_then(|mut file| {
        file.write_all(example.as_bytes())?;
        file.sync_all()
    });
    match created {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::of(
                9,
                "conflict",
                format!("{} exists", path.display()),
            ));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    }
    let object = json!({ "schema": "sotto.config/1", "path": path });
    say(json, &object, &format!("wrote {}", path.display()))?;
    Ok(0)
}

async fn run_check(url: Origin, timeout: Duration, json: bool) -> anyhow::Result<u8> {
    let mut rng = rand::rand_core::UnwrapErr(rand::rngs::SysRng);
    let report = check::check(&url, now_seconds()?, timeout, &mut rng)
        .await
        .map_err(|CheckError::Unreachable(reason)| {
            Failure::of(3, "unreachable", format!("{url}: {reason}"))
        })?;
    let lines: Vec<String> = report
        .checks
        .iter()
        .map(|check| {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            format!("{mark} {}: {}", check.name, check.detail)
        })
        .collect();
    say(json, &serde_json::to_value(&report)?, &lines.join("\n"))?;
    let failed = report.checks.iter().filter(|check| !check.ok).count();
    if report.ok {
        return Ok(0);
    }
    Err(Failure::of(
        5,
        "partly_done",
        format!("{failed} checks failed"),
    ))
}

fn verify(store: &DiskStorage, json: bool) -> anyhow::Result<u8> {
    let found = store.verify()?;
    let damaged: Vec<Value> = found
        .damaged
        .iter()
        .map(|(hash, problem)| json!({ "sha256": hash, "problem": problem }))
        .collect();
    let ok = damaged.is_empty();
    let mut text = format!("{} blobs, {} bytes, ", found.blobs, found.bytes);
    text.push_str(&format!("{} damaged", damaged.len()));
    for (hash, problem) in &found.damaged {
        text.push_str(&format!("\n{hash}: {problem}"));
    }
    let object = json!({
        "schema": "sotto.verify/1", "ok": ok,
        "blobs": found.blobs, "bytes": found.bytes, "damaged": damaged,
    });
    say(json, &object, &text)?;
    if ok {
        return Ok(0);
    }
    let detail = format!("{} blobs are damaged", found.damaged.len());
    Err(Failure::of(11, "integrity", detail))
}

fn gc(store: &DiskStorage, json: bool) -> anyhow::Result<u8> {
    let swept = store.sweep(now_seconds()?);
    let usage = store.usage();
    let object = json!({
        "schema": "sotto.gc/1", "erased": swept.erased, "failed": swept.failed,
        "blobs": usage.blobs, "bytes": usage.bytes,
    });
    let text = format!(
        "{} erased, {} failed; {} blobs, {} bytes stay",
        swept.erased, swept.failed, usage.blobs, usage.bytes
    );
    say(json, &object, &text)?;
    if swept.failed == 0 {
        return Ok(0);
    }
    let detail = format!("{} blobs could not be erased", swept.failed);
    Err(Failure::of(5, "partly_done", detail))
}

fn now_seconds() -> anyhow::Result<u64> {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(elapsed.as_secs())
}

/// The configuration file, and over it what the command line says.
fn load(
    path: Option<&Path>,
    data: Option<PathBuf>,
    listen: Option<String>,
    public_url: Option<String>,
) -> anyhow::Result<Config> {
    let default_data = match &data {
        Some(data) => data.clone(),
        None => platform_data()?,
    };
    let mut config = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let (code, word) = match error.kind() {
                    std::io::ErrorKind::NotFound => (7, "not_found"),
                    _ => (2, "usage"),
                };
                Failure::of(code, word, format!("{}: {error}", path.display()))
            })?;
            Config::parse(&text, default_data)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
        }
        None => Config::new(default_data),
    };
    if let Some(data) = data {
        config.data = data;
    }
    if config.data.exists() && !config.data.is_dir() {
        let detail = format!("{} is no folder", config.data.display());
        return Err(Failure::usage(detail));
    }
    let usage = |error: ConfigError| Failure::usage(error);
    if let Some(listen) = listen {
        config.listen = config::parse_listen(&listen).map_err(usage)?;
    }
    if let Some(url) = public_url {
        config.public_url = Some(config::parse_public_url(&url).map_err(usage)?);
    }
    Ok(config)
}

fn platform_data() -> anyhow::Result<PathBuf> {
    // A folder of its own: `sotto` is the home of an account, which can be removed as a whole.
    let folders = directories::ProjectDirs::from("", "", "sotto-files");
    let folders = folders.context("this platform names no data folder; use --data")?;
    Ok(folders.data_dir().to_owned())
}

/// The store of a server that does not run.
fn open(data: Option<PathBuf>) -> anyhow::Result<DiskStorage> {
    let data = match data {
        Some(data) => data,
        None => platform_data()?,
    };
    if !data.is_dir() {
        let detail = format!("{} is no folder", data.display());
        return Err(Failure::of(7, "not_found", detail));
    }
    DiskStorage::open(&data).map_err(|error| match error {
        StorageError::Busy => Failure::of(9, "conflict", error),
        other => other.into(),
    })
}

/// One file per transfer beside one socket: the usual 1,024 would be a limit of its own.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(WANTED);
    let raised = Rlimit {
        current: Some(WANTED.min(most)),
        maximum: limit.maximum,
    };
    if limit.current.is_some_and(|current| current < WANTED)
        && setrlimit(Resource::Nofile, raised).is_err()
    {
        tracing::warn!("the limit of open files stays as it is");
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Prints the object or the text. A reader that has gone is no failure of ours.
fn say(json: bool, object: &Value, text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = if json {
        writeln!(stdout, "{object}")
    } else {
        writeln!(stdout, "{text}")
    };
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn log_to_stderr(verbose: u8, json: bool) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false);
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
}

/// `30s`, `500ms`, `2m`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| "no duration like 10s".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("no duration like 10s, 500ms or 2m".to_owned()),
    }
}

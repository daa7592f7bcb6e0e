//! The command line of Sotto.
//!
//! Read in this order:
//!
//! 1. [`args`]: the one definition of what can be typed, checked while it is read.
//! 2. [`commands`]: one file per noun; each opens the account, asks the client's front door for
//!    one thing, and shows the answer.
//! 3. [`render`]: answers become text for people or objects for programs. Pure.
//! 4. [`printer`]: the one way to the terminal, which makes what strangers wrote harmless.
//! 5. [`secrets`]: PINs and passphrases on their way in; [`failure`]: how a command fails.
//! 6. [`demo`] shows every promise once; [`up`] runs what one machine needs.

pub mod args;
pub mod commands;
mod context;
pub mod demo;
pub mod failure;
pub mod printer;
mod progress;
pub mod render;
pub mod secrets;
mod signals;
pub mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use client_core::{Error, ErrorWord};

use args::{Cli, Command};
use context::Context;
use failure::{Failure, interrupted, usage};
use printer::{Mode, Printer};
use signals::Signals;

/// Version and commit, as `--version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SOTTO_COMMIT"), ")");

/// Runs one command line to its end and gives the exit code that `cli.md` promises.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&args, &error),
    };
    let mode = if cli.global.json {
        Mode::Json
    } else {
        Mode::Text
    };
    if matches!(cli.command, Command::Demo | Command::Up(_)) {
        // The relay's index engine creates its files with the umask's mode; they are for this
        // user alone, whoever creates them. What a user fetches keeps the user's own umask.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    let printer = Printer::new(mode, cli.global.quiet, cli.global.color.into());
    log_to_stderr(cli.global.verbose, mode);
    let mut context = Context::new(cli.global, printer);
    let ended = match runtime(&cli.command) {
        Ok(runtime) => {
            let ended = runtime.block_on(supervise(&mut context, cli.command));
            // A prompt or a read from stdin may still block a thread; nobody waits for it.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Error::from(error).into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.printer.failure(&failure);
            ExitCode::from(failure.error.exit)
        }
    }
}

/// Runs a command until it ends or a signal comes. A command that is cut off is dropped: what is
/// in the store is whole, since one input is one transaction, and half-written files go.
async fn supervise(context: &mut Context, command: Command) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    if let Command::Up(args) = command {
        return up::run(context, &args, &mut signals).await;
    }
    tokio::select! {
        ended = commands::run(context, command) => ended,
        () = signals.stop() => Err(interrupted().into()),
    }
}

/// One thread for a client; servers get as many as there are cores.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Demo | Command::Up(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

/// Help and version go to stdout; everything else that clap says is a usage error.
fn refuse(args: &[OsString], error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // The options could not be read as a whole, so the one that matters here is looked for.
    let is_json = args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json");
    if args.iter().any(holds_secret) {
        // clap would quote it.
        let mode = if is_json { Mode::Json } else { Mode::Text };
        let mut printer = Printer::new(mode, false, anstream::ColorChoice::Auto);
        let error = usage("a secret key does not belong on the command line");
        let hint = "whoever may list processes has seen it; a person is named by npub1…";
        printer.failure(&Failure::from(error.hint(hint)));
    } else if is_answer || !is_json {
        // clap prints in its own style, to stdout or stderr as fits; a closed stream is no matter.
        let _ = error.print();
    } else {
        let mut printer = Printer::new(Mode::Json, false, anstream::ColorChoice::Never);
        printer.failure(&Failure::from(explain(error)));
    }
    ExitCode::from(if is_answer { 0 } else { 2 })
}

fn holds_secret(arg: &OsString) -> bool {
    let arg = arg.to_string_lossy();
    let arg = arg.strip_prefix("nostr:").unwrap_or(&arg);
    arg.starts_with("nsec1") || arg.starts_with("ncryptsec1")
}

/// What clap has to say, in one sentence and a hint.
fn explain(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let detail = lines.next().unwrap_or_default();
    let detail = detail.strip_prefix("error: ").unwrap_or(detail);
    let rest: Vec<_> = lines
        .take_while(|line| !line.starts_with("Usage:"))
        .collect();
    let detail = if rest.is_empty() {
        detail.to_owned()
    } else {
        format!("{detail} {}", rest.join(", "))
    };
    let word = if names_a_broken_key(error) {
        ErrorWord::BadKey
    } else {
        ErrorWord::Usage
    };
    Error::new(word, detail).hint("see `sotto help`")
}

/// Whether somebody was to be named by a key or link that is none.
fn names_a_broken_key(error: &clap::Error) -> bool {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    matches!(text(ContextKind::InvalidArg), "<WHO>" | "<TO>")
        && args::parse::looks_like_key(text(ContextKind::InvalidValue))
}

/// `-v` tells what happens, `-vv` in detail; keys, addresses and contents are never logged.
fn log_to_stderr(verbose: u8, mode: Mode) {
    let level = match verbose {
        0 => return,
        1 => tracing::level_filters::LevelFilter::INFO,
        _ => tracing::level_filters::LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_writer(std::io::stderr);
    // Only the first one counts; there is no second here.
    let _ = match mode {
        Mode::Text => builder.without_time().try_init(),
        Mode::Json => builder.json().try_init(),
    };
}

/// A failure of this program itself.
pub(crate) fn internal(detail: impl std::fmt::Display) -> Error {
    Error::new(ErrorWord::Internal, detail.to_string())
}

//! `sotto-relay`: arguments in, exit code out.

mod commands;
mod log;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{Failure, Word};

/// The system's allocator keeps for each thread what that thread once needed: after a flood of every
/// kind it held twice what the ledger allows.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Stores sealed messages and hands them to their recipients alone.
#[derive(Debug, Parser)]
#[command(name = "sotto-relay", version)]
struct Arguments {
    /// One JSON object per line on stdout, errors as objects on stderr.
    #[arg(long, global = true)]
    json: bool,
    /// Log more (twice: even more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print no warnings.
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// Which configuration, and what the command line sets in its place.
#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// The configuration file; without one the defaults hold.
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// The folder that holds the events; by default server.data, or the platform's data folder,
    /// on Linux ~/.local/share/sotto-relay.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until SIGTERM; SIGHUP reads the configuration again.
    Run {
        #[command(flatten)]
        place: Place,
        /// Address and port; port 0 picks one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
        /// A URL that clients use; may be given several times.
        #[arg(long, value_name = "URL")]
        public_url: Vec<String>,
    },
    /// Write the example configuration.
    Init {
        /// To this file, which must not exist; without it to stdout.
        #[arg(long, value_name = "F")]
        config: Option<PathBuf>,
    },
    /// Test a running relay from outside, with keys made for the purpose.
    Check {
        /// ws:// or wss://; for a relay of members only with an invite code, as URL#CODE.
        url: String,
        /// Trust the authorities in this PEM file instead of the web's.
        #[arg(long, value_name = "F")]
        ca_file: Option<PathBuf>,
        /// How long each step may take.
        #[arg(long, value_name = "D", default_value = "30s", value_parser = commands::duration)]
        timeout: std::time::Duration,
    },
    /// Write every event as JSON Lines, from a stopped relay.
    Export {
        #[command(flatten)]
        place: Place,
        /// To this file, which must not exist; without it to stdout.
        #[arg(short, long, value_name = "F")]
        output: Option<PathBuf>,
    },
    /// Store events from JSON Lines in a stopped relay; each is verified.
    Import {
        #[command(flatten)]
        place: Place,
        /// From this file; "-" or nothing is stdin.
        file: Option<PathBuf>,
    },
    /// Give back the space of what is gone, in a stopped relay.
    Compact {
        #[command(flatten)]
        place: Place,
    },
    /// Members, bans and invites, of a running or a stopped relay.
    #[command(subcommand)]
    User(commands::user::Verb),
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && std::env::args().any(|word| word == "--json") => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let detail = first.trim_start_matches("error: ").to_owned();
            return report(true, &Failure::new(Word::Usage, detail));
        }
        // As the command of that name says it.
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayVersion => {
            let json = std::env::args().any(|word| word == "--json");
            let said = commands::version(&commands::Say { json, quiet: false });
            return said.unwrap_or_else(|failure| report(json, &failure));
        }
        Err(error) => {
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // What the relay writes is for its own user alone, whoever creates the file. Not so the
    // configuration: root writes it, the relay's user reads it, and nothing in it is secret.
    if !matches!(arguments.command, Command::Init { .. }) {
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    log::start(arguments.json, arguments.quiet, arguments.verbose);
    let json = arguments.json;
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => report(json, &failure),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        json,
        quiet,
        command,
        ..
    } = arguments;
    let say = commands::Say { json, quiet };
    match command {
        Command::Run {
            place,
            listen,
            public_url,
        } => commands::run::run(&say, place, listen, public_url),
        Command::Init { config } => commands::init(&say, config),
        Command::Check {
            url,
            ca_file,
            timeout,
        } => commands::check::check(&say, &url, timeout, ca_file),
        Command::Export { place, output } => commands::transfer::export(&say, place, output),
        Command::Import { place, file } => commands::transfer::import(&say, place, file),
        Command::Compact { place } => commands::transfer::compact(&say, place),
        Command::User(verb) => commands::user::user(&say, verb),
        Command::Version => commands::version(&say),
    }
}

fn report(json: bool, failure: &Failure) -> ExitCode {
    let line = match json {
        true => failure.to_json().to_string(),
        false => failure.to_text(),
    };
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::from(failure.word.exit_code())
}

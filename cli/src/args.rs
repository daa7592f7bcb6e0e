//! The command line: its one definition, from which help, man pages and completions come.
//!
//! Values are checked while they are read (see [`parse`]), so that a usage error comes before
//! any PIN is asked for. A command that is not built is not here.

pub mod global;
pub mod parse;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use client_core::{NamedRelay, Origin, RelayUrl};

pub use global::Global;

/// A private messenger on relays you choose.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "sotto",
    bin_name = "sotto",
    version = crate::VERSION,
    about = "A private messenger on relays you choose",
    after_help = "Start with `sotto demo` to see it work, or `sotto init --relay URL` for an account.",
    arg_required_else_help = true,
    args_override_self = true,
    disable_help_flag = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Send a message or files
    Send(Send),
    /// Show one line per conversation
    Inbox,
    /// Fetch what is new from every inbox relay, then exit
    Sync,
    /// Read, follow and delete messages
    #[command(subcommand)]
    Message(Message),
    /// Fetch files
    #[command(subcommand)]
    File(File),
    /// Print a link that others add you by
    Invite,
    /// People
    #[command(subcommand)]
    Contact(Contact),
    /// Separate identities for separate parts of life
    #[command(subcommand)]
    Circle(Circle),
    /// Create an account
    Init(Init),
    /// Show, export or remove the account
    #[command(subcommand)]
    Account(Account),
    /// Change or check the PIN
    #[command(subcommand)]
    Pin(Pin),
    /// The circle's inbox relays
    #[command(subcommand)]
    Relay(Relay),
    /// The circle's file servers
    #[command(subcommand)]
    Fileserver(Fileserver),
    /// What waits to be sent
    #[command(subcommand)]
    Outbox(Outbox),
    /// Show every promise once: two accounts, a relay and a file server on this machine
    Demo,
    /// Run a relay, a file server and an account for this machine
    Up(Up),
    /// Print a script that completes commands in your shell
    Completions(Completions),
    /// Show or write the manual pages
    Man(Man),
    /// Print the version
    Version,
}

/// `init`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example: sotto init --name Ada --relay wss://relay.example --file-server https://files.example"
)]
pub struct Init {
    /// What you call yourself in invites
    #[arg(long, value_name = "NAME", value_parser = parse::name)]
    pub name: Option<String>,
    /// An inbox relay: where messages to you wait; an invitation to one is URL#CODE (may be repeated)
    #[arg(long, value_name = "URL", value_parser = parse::named_relay)]
    pub relay: Vec<NamedRelay>,
    /// A file server: where your files wait, encrypted (may be repeated)
    #[arg(long, value_name = "URL", value_parser = parse::file_server)]
    pub file_server: Vec<Origin>,
    /// How many seed words to make
    #[arg(
        long,
        value_name = "N",
        default_value = "24",
        conflicts_with = "restore"
    )]
    pub words: Words,
    /// Restore from seed words in this file, or `-` for stdin
    #[arg(long, value_name = "F")]
    pub restore: Option<PathBuf>,
    /// Print the seed words once, to be written down
    #[arg(long)]
    pub show_words: bool,
}

/// How many seed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Words {
    /// 128 bits.
    #[value(name = "12")]
    Twelve,
    /// 256 bits.
    #[value(name = "24")]
    TwentyFour,
}

/// `account`
#[derive(Debug, Clone, Subcommand)]
pub enum Account {
    /// Show the account of the circle
    Show,
    /// Print the secret, to be kept safe
    #[command(group(ArgGroup::new("form").required(true).args(["words", "ncryptsec"])))]
    Export {
        /// As seed words: they restore everything
        #[arg(long)]
        words: bool,
        /// As NIP-49 text for another client, under a passphrase (--passphrase-file)
        #[arg(long)]
        ncryptsec: bool,
    },
    /// Erase the account from this machine
    Remove {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `pin`
#[derive(Debug, Clone, Subcommand)]
pub enum Pin {
    /// Change the PIN, or what takes its place
    #[command(group(ArgGroup::new("new").args(["new_pin_file", "new_key_file", "new_passphrase_file"])))]
    Change {
        /// Read the new PIN from this file
        #[arg(long, value_name = "F")]
        new_pin_file: Option<PathBuf>,
        /// Unlock with this key file from now on
        #[arg(long, value_name = "F")]
        new_key_file: Option<PathBuf>,
        /// Read the new passphrase from this file
        #[arg(long, value_name = "F")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Check the PIN; a wrong one counts as a wrong try
    Check,
}

/// `contact`
#[derive(Debug, Clone, Subcommand)]
pub enum Contact {
    /// Add somebody by npub, nprofile, hex key or invite link; accepts their first messages
    Add {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
        /// What to call them
        #[arg(long, value_name = "A", value_parser = parse::name)]
        alias: Option<String>,
    },
    /// List everybody
    List,
    /// Show one
    Show {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
    },
    /// Mark their key as compared: you checked that it is theirs
    Verify {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
    },
    /// Take nothing from them and send nothing to them
    Block {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
    },
    /// Take it back
    Unblock {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
    },
    /// Forget them
    Remove {
        /// Who
        #[arg(value_parser = parse::person)]
        who: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `circle`
#[derive(Debug, Clone, Subcommand)]
pub enum Circle {
    /// Create a circle: a key, relays and contacts of its own
    Create {
        /// Its name
        #[arg(value_parser = parse::name)]
        name: String,
        /// An inbox relay of its own; an invitation to one is URL#CODE (may be repeated)
        #[arg(long, value_name = "URL", required = true, value_parser = parse::named_relay)]
        relay: Vec<NamedRelay>,
        /// A file server of its own (may be repeated)
        #[arg(long, value_name = "URL", value_parser = parse::file_server)]
        file_server: Vec<Origin>,
        /// How long its messages live, such as 7d
        #[arg(long, value_name = "D", value_parser = parse::lifetime)]
        expire: Option<u64>,
    },
    /// List all
    List,
    /// Make one the current circle
    Use {
        /// Its name
        name: String,
    },
    /// Show one
    Show {
        /// Its name [default: the current one]
        name: Option<String>,
    },
}

/// `send`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  sotto send bob 'Are you there?'\n  sotto send bob --file photo.jpg --expire 1h\n  git diff | sotto send bob -"
)]
pub struct Send {
    /// Alias, npub, nprofile, hex key or invite link
    #[arg(value_name = "TO", value_parser = parse::person)]
    pub to: String,
    /// The text, or `-` for stdin
    #[arg(value_name = "TEXT", required_unless_present = "file")]
    pub text: Option<String>,
    /// A file to send, or `-` for stdin (may be repeated)
    #[arg(long, value_name = "P")]
    pub file: Vec<PathBuf>,
    /// The message that this one answers
    #[arg(long, value_name = "ID", value_parser = parse::message_id)]
    pub reply_to: Option<String>,
    /// Vanish on both sides after this time, such as 1h
    #[arg(long, value_name = "D", value_parser = parse::lifetime)]
    pub expire: Option<u64>,
    /// Send the text as a file: for long texts, or bytes that are no text
    #[arg(long, requires = "text")]
    pub as_file: bool,
    /// What the file is called at the other end
    #[arg(long, value_name = "N")]
    pub name: Option<String>,
    /// Leave place and camera in pictures
    #[arg(long)]
    pub keep_metadata: bool,
    /// Let the recipient's relay see which account sends, where it insists
    #[arg(long)]
    pub as_myself: bool,
    /// How far the message must come
    #[arg(long, value_name = "LEVEL", default_value = "accepted")]
    pub wait: Wait,
    /// Send at most once under this key, however often the command runs
    #[arg(long, value_name = "K")]
    pub idempotency_key: Option<String>,
}

/// How far a message must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// It is in the outbox.
    Queued,
    /// One relay of the recipient took it.
    Accepted,
    /// All reachable relays of the recipient took it, or two.
    Stored,
    /// The recipient's client has it.
    Delivered,
    /// The recipient read it.
    Read,
}

/// `message`
#[derive(Debug, Clone, Subcommand)]
pub enum Message {
    /// List a conversation, oldest first
    List {
        /// With whom
        #[arg(value_parser = parse::person)]
        who: String,
        /// The newest so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Only what came before this message
        #[arg(long, value_name = "ID", value_parser = parse::message_id)]
        before: Option<String>,
    },
    /// Show one
    Show {
        /// Which
        #[arg(value_parser = parse::message_id)]
        id: String,
    },
    /// Follow what happens until Ctrl-C or --timeout
    Watch {
        /// Begin after this number, so that a script misses nothing
        #[arg(long, value_name = "SEQ")]
        from_seq: Option<i64>,
    },
    /// Delete one
    Delete {
        /// Which
        #[arg(value_parser = parse::message_id)]
        id: String,
        /// On the other side, the relays and the file servers as well
        #[arg(long)]
        for_everyone: bool,
    },
    /// Show how far one came, or what is known of its deletion
    Status {
        /// Which
        #[arg(value_parser = parse::message_id)]
        id: String,
    },
}

/// `file`
#[derive(Debug, Clone, Subcommand)]
pub enum File {
    /// Fetch, check and decrypt the files of a message
    Get {
        /// Which message
        #[arg(value_name = "MESSAGE-ID", value_parser = parse::message_id)]
        id: String,
        /// Where to write it, or `-` for stdout [default: a safe name in this folder]
        #[arg(short, long, value_name = "PATH")]
        output: Option<PathBuf>,
        /// Write over what is there
        #[arg(long, requires = "output")]
        force: bool,
    },
}

/// `relay`
#[derive(Debug, Clone, Subcommand)]
pub enum Relay {
    /// Add an inbox relay and tell the others
    Add {
        /// Its URL: wss://HOST, or wss://HOST#CODE to join it with an invite
        #[arg(value_parser = parse::named_relay)]
        url: NamedRelay,
    },
    /// List them
    List,
    /// Remove one and tell the others
    Remove {
        /// Its URL
        #[arg(value_parser = parse::relay)]
        url: RelayUrl,
    },
    /// Ask a relay for everything that Sotto needs of it
    Check {
        /// Its URL
        #[arg(value_parser = parse::relay)]
        url: RelayUrl,
    },
}

/// `fileserver`
#[derive(Debug, Clone, Subcommand)]
pub enum Fileserver {
    /// Add a file server and tell the relays
    Add {
        /// Its URL: https://HOST
        #[arg(value_parser = parse::file_server)]
        url: Origin,
    },
    /// List them
    List,
    /// Remove one and tell the relays
    Remove {
        /// Its URL
        #[arg(value_parser = parse::file_server)]
        url: Origin,
    },
    /// Ask a file server for everything that Sotto needs of it
    Check {
        /// Its URL
        #[arg(value_parser = parse::file_server)]
        url: Origin,
    },
}

/// `outbox`
#[derive(Debug, Clone, Subcommand)]
pub enum Outbox {
    /// List it
    List,
    /// Try everything now
    Flush,
    /// Take one back
    Cancel {
        /// The item's id
        id: String,
    },
}

/// `up`
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// What you call yourself in invites, if the account is made now
    #[arg(long, value_name = "NAME", value_parser = parse::name)]
    pub name: Option<String>,
    /// Where the relay listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7447")]
    pub listen_relay: SocketAddr,
    /// Where the file server listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7448")]
    pub listen_files: SocketAddr,
}

/// `completions`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example: sotto completions bash > ~/.local/share/bash-completion/completions/sotto"
)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The command whose page is wanted, such as `message list`
    pub command: Vec<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_go_before_or_after_the_verb() {
        for line in [
            "sotto --json --home /h sync",
            "sotto sync --json --home /h",
            "sotto --home /h message list bob --json",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json, "{line}");
            assert_eq!(cli.global.home, Some(PathBuf::from("/h")));
        }
    }

    #[test]
    fn a_circle_needs_a_relay_of_its_own() {
        assert!(Cli::try_parse_from("sotto circle create work".split(' ')).is_err());
    }

    #[test]
    fn sending_needs_a_text_or_a_file() {
        assert!(Cli::try_parse_from("sotto send bob".split(' ')).is_err());
        assert!(Cli::try_parse_from("sotto send bob --file x".split(' ')).is_ok());
        assert!(Cli::try_parse_from("sotto send bob -".split(' ')).is_ok());
    }
}

//! Options that go before or after any verb.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::parse;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The account's folder [default: the platform's data folder]
    // `SOTTO_HOME` is read where the folder is needed: clap would refuse an empty one, which
    // means the same as none.
    #[arg(long, global = true, value_name = "DIR", display_order = 901)]
    pub home: Option<PathBuf>,

    /// The circle to act in [default: the current one]
    #[arg(
        long,
        global = true,
        env = "SOTTO_CIRCLE",
        hide_env = true,
        value_name = "NAME",
        display_order = 902
    )]
    pub circle: Option<String>,

    /// Print one JSON object per line instead of text
    #[arg(long, global = true, display_order = 903)]
    pub json: bool,

    /// Never ask; what would need an answer fails with exit code 4
    #[arg(long, global = true, display_order = 904)]
    pub no_input: bool,

    /// How long the network may take, such as 10s [default: 30s]
    #[arg(long, global = true, value_name = "D", value_parser = parse::timeout, display_order = 905)]
    pub timeout: Option<Duration>,

    /// Read the PIN from this file
    #[arg(
        long,
        global = true,
        value_name = "F",
        group = "unlock",
        display_order = 906
    )]
    pub pin_file: Option<PathBuf>,

    /// Read the PIN from this open file descriptor
    #[arg(
        long,
        global = true,
        value_name = "N",
        group = "unlock",
        display_order = 907
    )]
    pub pin_fd: Option<u16>,

    /// Unlock with this key file
    #[arg(
        long,
        global = true,
        value_name = "F",
        group = "unlock",
        display_order = 908
    )]
    pub key_file: Option<PathBuf>,

    /// Read the passphrase from this file
    #[arg(long, global = true, value_name = "F", display_order = 909)]
    pub passphrase_file: Option<PathBuf>,

    /// Say more about what happens (twice: much more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 910)]
    pub verbose: u8,

    /// Print no warnings, notes or progress
    #[arg(short, long, global = true, display_order = 911)]
    pub quiet: bool,

    /// When to use colour (NO_COLOR is honoured)
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        display_order = 912
    )]
    pub color: Color,

    /// Print help
    #[arg(short, long, global = true, action = clap::ArgAction::HelpShort, display_order = 913)]
    pub help: Option<bool>,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

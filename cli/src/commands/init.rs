//! `sotto init`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use client_core::client::{InitOptions, Protection, UnlockWith, WordCount};
use client_core::{Error, ErrorWord, InviteCode, NamedRelay, RelayUrl, Result, SecretText};

use crate::args::{Init, Words};
use crate::context::{Context, Ended};
use crate::failure::usage;
use crate::printer::text::{Line, Look, Text};
use crate::secrets;

pub async fn run(context: &mut Context, args: Init) -> Ended {
    let home = context.new_home()?;
    if home.exists() {
        let place = home.path().display();
        return Err(Error::new(
            ErrorWord::Conflict,
            format!("there is an account in {place} already"),
        )
        .hint("show it with `sotto account show`, or name another folder with --home")
        .into());
    }
    if args.restore.is_some() && args.relay.is_empty() {
        return Err(
            usage("an account is restored from its relays: name one of them with --relay").into(),
        );
    }
    let restore = match &args.restore {
        Some(path) => Some(seed_words(context, path).await?),
        None => None,
    };
    let unlock = new_unlock(context).await?;
    let has_relay = !args.relay.is_empty();
    let shows_words = args.show_words;
    let options = options(args, restore);
    let outcome = home.init(unlock, options, &context.settings()).await?;
    context.printer.show(&outcome.value)?;
    if !has_relay {
        context
            .printer
            .warn("no inbox relay yet: nobody can write to this account; `sotto relay add URL`");
    }
    let protection = home.protection()?;
    let text = advice(&context.program(), protection, shows_words);
    context.printer.note(&text);
    context.fail_with(&outcome.value, outcome.error)
}

/// What the front door needs to know.
pub(crate) fn options(args: Init, restore: Option<SecretText>) -> InitOptions {
    let (relays, invites) = relays_and_invites(args.relay);
    InitOptions {
        name: args.name,
        relays,
        invites,
        file_servers: args.file_server,
        words: match args.words {
            Words::Twelve => WordCount::Twelve,
            Words::TwentyFour => WordCount::TwentyFour,
        },
        restore,
        show_words: args.show_words,
        ..InitOptions::default()
    }
}

/// Relays as somebody named them: their URLs, and the codes that came with some.
pub(crate) fn relays_and_invites(
    named: Vec<NamedRelay>,
) -> (Vec<RelayUrl>, Vec<(RelayUrl, InviteCode)>) {
    let relays = named.iter().map(|relay| relay.url.clone()).collect();
    let invites = named
        .into_iter()
        .filter_map(|relay| Some((relay.url, relay.code?)))
        .collect();
    (relays, invites)
}

/// What will open the new account: as the options say, or else a PIN that is asked for.
pub(crate) async fn new_unlock(context: &Context) -> Result<UnlockWith> {
    let global = &context.global;
    let by_pin = global.pin_file.is_some() || global.pin_fd.is_some() || global.key_file.is_some();
    if by_pin && global.passphrase_file.is_some() {
        return Err(usage(
            "an account has a PIN, a passphrase or a key file: give one of them",
        ));
    }
    if let Some(path) = &global.key_file {
        return Ok(UnlockWith::KeyFile(path.clone()));
    }
    if let Some(path) = &global.passphrase_file {
        return secrets::from_file(path, "passphrase").map(UnlockWith::Passphrase);
    }
    if let Some(path) = &global.pin_file {
        return secrets::from_file(path, "PIN").map(UnlockWith::Pin);
    }
    if let Some(number) = global.pin_fd {
        return secrets::from_fd(number, "PIN").map(UnlockWith::Pin);
    }
    secrets::prompt_new("PIN (at least 4 digits, 6 are better)", global.no_input)
        .await
        .map(UnlockWith::Pin)
        .map_err(|error| match error.word {
            ErrorWord::Locked => {
                error.hint("give --pin-file, --pin-fd, --passphrase-file or --key-file")
            }
            _ => error,
        })
}

/// The words of an account that exists, from a file, stdin, or asked for without echo.
async fn seed_words(context: &Context, path: &PathBuf) -> Result<SecretText> {
    let is_stdin = path == Path::new("-");
    let pin_is_stdin = [&context.global.pin_file, &context.global.passphrase_file]
        .into_iter()
        .any(|file| file.as_deref() == Some(Path::new("-")));
    if is_stdin && pin_is_stdin {
        return Err(usage("seed words and PIN cannot both come from stdin"));
    }
    if is_stdin && std::io::stdin().is_terminal() {
        return secrets::prompt("Seed words: ", context.global.no_input).await;
    }
    secrets::from_file(path, "seed words")
}

/// What a person should know now.
fn advice(program: &str, protection: Protection, shows_words: bool) -> Text {
    let stops = match protection {
        Protection::Pin => {
            "The PIN stops somebody who picks up this machine or copies the account without its \
             device-secret file. Who copies the whole folder can try PINs without end."
        }
        Protection::Passphrase => {
            "The passphrase protects a copied folder as well as it is hard to guess."
        }
        Protection::KeyFile => {
            "The key file opens the account: keep it apart from the folder, and private."
        }
    };
    let mut text = Text::new().line(Line::new()).line(Line::new().dim(stops));
    if !shows_words {
        let line = Line::new()
            .dim("Write the seed words down: only they bring the account back.  ")
            .add(Look::Link, format!("{program} account export --words"));
        text = text.line(line);
    }
    let line = Line::new()
        .dim("Let somebody add you:  ")
        .add(Look::Link, format!("{program} invite"));
    text.line(line)
}

//! What every command needs: the options, the printer, and the way to an open account.

use std::path::PathBuf;

use client_core::client::{Client, Home, Outcome, Protection, Settings, UnlockWith};
use client_core::{Error, ErrorWord, Result};

use crate::args::Global;
use crate::failure::{Failure, usage};
use crate::printer::Printer;
use crate::render::Render;
use crate::{progress, secrets};

/// How a command ends. What it had to say is on stdout already.
pub type Ended = std::result::Result<(), Failure>;

/// One command's surroundings.
pub struct Context {
    /// The options of every command.
    pub global: Global,
    /// The way to the terminal.
    pub printer: Printer,
}

impl Context {
    /// Puts both together.
    pub fn new(global: Global, printer: Printer) -> Self {
        Self { global, printer }
    }

    /// The account's folder: `--home`, else `SOTTO_HOME` (an empty one counts as unset), else the
    /// platform's place for data.
    pub fn home_dir(&self) -> Result<PathBuf> {
        let named = self.global.home.clone();
        let from_environment = || {
            std::env::var_os("SOTTO_HOME")
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
        };
        match named.or_else(from_environment) {
            Some(dir) => Ok(dir),
            None => directories::ProjectDirs::from("", "", "sotto")
                .map(|dirs| dirs.data_dir().to_owned())
                .ok_or_else(|| usage("this machine names no home folder; give one with --home")),
        }
    }

    /// How the program is called for this account: hints that are copied must work.
    pub fn program(&self) -> String {
        let is_known = match &self.global.home {
            None => true,
            Some(dir) => std::env::var_os("SOTTO_HOME").is_some_and(|known| known == *dir),
        };
        match self.home_dir() {
            Ok(dir) if !is_known => format!("sotto --home {}", dir.display()),
            _ => "sotto".to_owned(),
        }
    }

    /// The folder as the front door takes it.
    pub fn home(&self) -> Result<Home> {
        Ok(Home::at(self.home_dir()?))
    }

    /// A folder for an account that may still have to be made; 2 where it cannot be a folder.
    pub fn new_home(&self) -> Result<Home> {
        let home = self.home()?;
        let place = home.path();
        if place.exists() && !place.is_dir() {
            let place = place.display();
            return Err(usage(format!("{place} is a file, and a home is a folder"))
                .hint("name another place with --home"));
        }
        Ok(home)
    }

    /// A folder that holds an account; 7 where there is none.
    pub fn existing_home(&self) -> Result<Home> {
        let home = self.home()?;
        if home.exists() {
            return Ok(home);
        }
        let place = home.path().display().to_string();
        Err(Error::new(
            ErrorWord::NotFound,
            format!("there is no account in {place}"),
        )
        .hint("make one with `sotto init`, or name its folder with --home"))
    }

    /// Clock, randomness and network of this machine, with `--timeout`.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(timeout) = self.global.timeout {
            settings.timeout = timeout;
        }
        if self.printer.shows_notes() {
            settings.on_transfer = Some(progress::bar());
        }
        settings
    }

    /// What opens `home`: as the options say, or else asked for.
    pub async fn unlock(&self, home: &Home) -> Result<UnlockWith> {
        self.unlock_with(home, true).await
    }

    /// The same where `--passphrase-file` means something else.
    pub async fn unlock_without_passphrase_file(&self, home: &Home) -> Result<UnlockWith> {
        self.unlock_with(home, false).await
    }

    async fn unlock_with(&self, home: &Home, use_passphrase_file: bool) -> Result<UnlockWith> {
        let global = &self.global;
        if let Some(path) = &global.key_file {
            return Ok(UnlockWith::KeyFile(path.clone()));
        }
        let protection = home.protection()?;
        let what = match protection {
            Protection::KeyFile => {
                return Err(Error::new(
                    ErrorWord::Locked,
                    "this account is unlocked with a key file",
                )
                .hint("name it with --key-file"));
            }
            Protection::Pin => "PIN",
            Protection::Passphrase => "passphrase",
        };
        let passphrase_file = global.passphrase_file.as_ref();
        let secret = match (passphrase_file, &global.pin_file, global.pin_fd) {
            (Some(path), _, _) if use_passphrase_file => secrets::from_file(path, what)?,
            (_, Some(path), _) => secrets::from_file(path, what)?,
            (_, _, Some(number)) => secrets::from_fd(number, what)?,
            _ => {
                let hint = format!("give the {what} with --pin-file or --pin-fd");
                secrets::prompt(&format!("{what}: "), global.no_input)
                    .await
                    .map_err(|error| match error.word {
                        ErrorWord::Locked => {
                            Error::new(ErrorWord::Locked, format!("the {what} is needed"))
                                .hint(hint)
                        }
                        _ => error,
                    })?
            }
        };
        Ok(match protection {
            Protection::Passphrase => UnlockWith::Passphrase(secret),
            _ => UnlockWith::Pin(secret),
        })
    }

    /// Unlocks the account and binds it to the circle that was asked for.
    pub async fn open(&mut self) -> Result<Client> {
        let home = self.existing_home()?;
        let unlock = self.unlock(&home).await?;
        let circle = self
            .global
            .circle
            .as_deref()
            .filter(|name| !name.is_empty());
        home.open(unlock, circle, &self.settings())
    }

    /// Ends a command with one answer: warnings, the view, then what kept it from being done in
    /// full.
    pub async fn end<T: Render>(&mut self, mut client: Client, outcome: Outcome<T>) -> Ended {
        self.pass_on_warnings(&mut client);
        let shown = self.printer.show(&outcome.value);
        client.close().await;
        shown?;
        self.fail_with(&outcome.value, outcome.error)
    }

    /// Ends a command with a list.
    pub async fn end_list<T: Render>(
        &mut self,
        mut client: Client,
        outcome: Outcome<Vec<T>>,
    ) -> Ended {
        self.pass_on_warnings(&mut client);
        let shown = self.printer.show_all(&outcome.value);
        client.close().await;
        shown?;
        outcome.error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Prints what the client wants the user to know.
    pub fn pass_on_warnings(&mut self, client: &mut Client) {
        for warning in client.take_warnings() {
            self.printer.warn(&warning);
        }
    }

    /// The failure of a command whose view is on stdout.
    pub fn fail_with<T: Render>(&self, view: &T, error: Option<Error>) -> Ended {
        match (error, view.about()) {
            (None, _) => Ok(()),
            (Some(error), Some((id, status))) => Err(Failure::about(error, id, Some(status))),
            (Some(error), None) => Err(error.into()),
        }
    }
}

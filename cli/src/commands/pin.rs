//! `sotto pin`

use std::path::PathBuf;

use client_core::client::{Home, Protection, UnlockWith};
use client_core::{Error, ErrorWord, Result};

use crate::args::Pin;
use crate::context::{Context, Ended};
use crate::render::PinHolds;
use crate::secrets;

pub async fn run(context: &mut Context, command: Pin) -> Ended {
    let home = context.existing_home()?;
    let is_changed = match command {
        Pin::Check => {
            check(context, &home).await?;
            false
        }
        Pin::Change {
            new_pin_file,
            new_key_file,
            new_passphrase_file,
        } => {
            let new = new_unlock(new_pin_file, new_key_file, new_passphrase_file)?;
            let old = context.unlock(&home).await?;
            let new = match new {
                Some(new) => new,
                None => UnlockWith::Pin(secrets::prompt_new("PIN", context.global.no_input).await?),
            };
            home.change_unlock(old, new, &context.settings())?;
            true
        }
    };
    context.printer.show(&PinHolds {
        ok: true,
        changed: is_changed,
    })?;
    Ok(())
}

async fn check(context: &Context, home: &Home) -> Result<()> {
    if home.protection()? == Protection::KeyFile {
        return Err(Error::new(
            ErrorWord::Conflict,
            "this account has no PIN: it is unlocked with a key file",
        ));
    }
    let unlock = context.unlock(home).await?;
    home.check_unlock(unlock, &context.settings())
}

/// What takes the old one's place, as far as options say it.
fn new_unlock(
    pin: Option<PathBuf>,
    key: Option<PathBuf>,
    passphrase: Option<PathBuf>,
) -> Result<Option<UnlockWith>> {
    Ok(match (pin, key, passphrase) {
        (Some(path), _, _) => Some(UnlockWith::Pin(secrets::from_file(&path, "new PIN")?)),
        (_, Some(path), _) => Some(UnlockWith::KeyFile(path)),
        (_, _, Some(path)) => Some(UnlockWith::Passphrase(secrets::from_file(
            &path,
            "new passphrase",
        )?)),
        _ => None,
    })
}

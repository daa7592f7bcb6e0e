//! `sotto account`

use client_core::SecretText;
use client_core::client::Outcome;

use crate::args::Account;
use crate::context::{Context, Ended};
use crate::failure::usage;
use crate::render::{Export, ExportForm, Removed};
use crate::secrets;

pub async fn run(context: &mut Context, command: Account) -> Ended {
    match command {
        Account::Show => {
            let client = context.open().await?;
            let view = client.account()?;
            context.end(client, Outcome::done(view)).await
        }
        Account::Export { ncryptsec, .. } if ncryptsec => export_ncryptsec(context).await,
        Account::Export { .. } => export_words(context).await,
        Account::Remove { yes } => remove(context, yes).await,
    }
}

async fn export_words(context: &mut Context) -> Ended {
    let client = context.open().await?;
    let words = client.export_words()?;
    let export = Export {
        account: client.account()?,
        form: ExportForm::Words(words),
    };
    context.end(client, Outcome::done(export)).await
}

async fn export_ncryptsec(context: &mut Context) -> Ended {
    let home = context.existing_home()?;
    let passphrase = match &context.global.passphrase_file {
        Some(path) => secrets::from_file(path, "passphrase")?,
        None => secrets::prompt_new("passphrase for the export", context.global.no_input).await?,
    };
    let text = passphrase.expose_secret();
    if text.chars().count() < 12 || text.chars().all(|c| c.is_ascii_digit()) {
        return Err(
            usage("a passphrase for an export has at least 12 characters, not all digits")
                .hint("who gets the export can try passphrases without end; a PIN would not last")
                .into(),
        );
    }
    let unlock = context.unlock_without_passphrase_file(&home).await?;
    let circle = context.global.circle.as_deref();
    let mut client = home.open(unlock, circle, &context.settings())?;
    let secret = client.export_ncryptsec(passphrase)?;
    let export = Export {
        account: client.account()?,
        form: ExportForm::Ncryptsec(SecretText::new(secret)),
    };
    context.end(client, Outcome::done(export)).await
}

async fn remove(context: &mut Context, yes: bool) -> Ended {
    let home = context.existing_home()?;
    let place = home.path().display().to_string();
    let question = format!(
        "Remove the account in {place} with all its messages? Only the seed words bring it back."
    );
    secrets::confirm(&question, yes, context.global.no_input).await?;
    let unlock = context.unlock(&home).await?;
    home.remove(unlock, &context.settings())?;
    context.printer.show(&Removed { home: place })?;
    Ok(())
}

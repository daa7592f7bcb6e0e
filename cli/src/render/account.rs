//! The account, and the small objects around it.

use client_core::SecretText;
use client_core::view::AccountView;
use serde::{Serialize, Serializer};

use super::{Clock, Render, object};
use crate::printer::text::{Line, Look, Text};

impl Render for AccountView {
    const SCHEMA: &'static str = "sotto.account/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let mut text = Text::new()
            .line(field("account").add(Look::Strong, &self.npub))
            .line(field("circle").plain(&self.circle));
        text = list(text, "relays", &self.relays);
        text = list(text, "files", &self.file_servers);
        text = text.line(field("unlock").plain(self.protected_by.replace('_', " ")));
        if let Some(words) = &self.words {
            text = text.line(field("words").add(Look::Strong, words));
        }
        text
    }
}

const COLUMN: usize = 10;

/// The name in front of a value, in a column of its own.
pub(super) fn field(name: &str) -> Line {
    Line::new().dim(name).to_column(COLUMN)
}

/// Values one below the other behind one name; a dash where there is none.
pub(super) fn list(mut text: Text, name: &str, values: &[String]) -> Text {
    if values.is_empty() {
        return text.line(field(name).dim("–"));
    }
    for (place, value) in values.iter().enumerate() {
        text = text.line(field(if place == 0 { name } else { "" }).plain(value));
    }
    text
}

/// `account export`: the account and its secret, because it was asked for.
#[derive(Serialize)]
pub struct Export {
    /// Whose.
    #[serde(flatten)]
    pub account: AccountView,
    /// The secret.
    #[serde(flatten)]
    pub form: ExportForm,
}

/// What form the secret has.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportForm {
    /// Seed words.
    Words(#[serde(serialize_with = "expose")] SecretText),
    /// NIP-49 text.
    Ncryptsec(#[serde(serialize_with = "expose")] SecretText),
}

/// The one place where a secret is written out, because the user asked for it.
fn expose<S: Serializer>(secret: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

impl Render for Export {
    const SCHEMA: &'static str = "sotto.account/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        match &self.form {
            ExportForm::Words(secret) | ExportForm::Ncryptsec(secret) => {
                Text::of(secret.expose_secret())
            }
        }
    }
}

/// `sotto.invite/1`.
#[derive(Debug, Serialize)]
pub struct InviteLink {
    /// `nostr:nprofile1…`.
    pub link: String,
}

impl Render for InviteLink {
    const SCHEMA: &'static str = "sotto.invite/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        Text::new().line(Line::new().plain(&self.link))
    }
}

/// `sotto.version/1`.
#[derive(Debug, Serialize)]
pub struct Version {
    /// As in `Cargo.toml`.
    pub version: &'static str,
    /// The commit that it was built from, or `unknown`.
    pub commit: &'static str,
}

impl Render for Version {
    const SCHEMA: &'static str = "sotto.version/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        Text::of(format!("sotto {} ({})", self.version, self.commit))
    }
}

/// `sotto.pin/1`: `pin check` and `pin change` that went well.
#[derive(Debug, Serialize)]
pub struct PinHolds {
    /// Always true: anything else is an error.
    pub ok: bool,
    /// Whether it was changed just now.
    pub changed: bool,
}

impl Render for PinHolds {
    const SCHEMA: &'static str = "sotto.pin/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let words = if self.changed {
            "changed"
        } else {
            "it is right"
        };
        Text::new().line(Line::new().add(Look::Good, "✓ ").plain(words))
    }
}

/// `sotto.removed/1`: an account that is gone from this machine.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The folder that was removed.
    pub home: String,
}

impl Render for Removed {
    const SCHEMA: &'static str = "sotto.removed/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let line = Line::new().add(Look::Good, "✓ ").plain("removed ");
        Text::new().line(line.dim(&self.home))
    }
}

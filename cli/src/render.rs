//! Views become text for people or objects for programs. Pure: no I/O, and the clock is handed
//! in. The objects are the contract that scripts are written against; the texts may change.

mod account;
mod clock;
mod contact;
mod deletion;
mod message;
mod outbox;
mod sending;
mod servers;

use serde::Serialize;

use crate::printer::text::Text;

pub use account::{Export, ExportForm, InviteLink, PinHolds, Removed, Version};
pub use clock::{Clock, size};
pub use servers::{FileServer, RelayServer};

/// A view that can be shown.
pub trait Render {
    /// Its name and version in the contract, such as `sotto.message/1`.
    const SCHEMA: &'static str;

    /// As a program reads it.
    fn object(&self) -> impl Serialize + '_;

    /// As a person reads it, by itself.
    fn text(&self, clock: &Clock) -> Text;

    /// The message that it is about and how far that came, for the error beside a view of what
    /// was done only partly.
    fn about(&self) -> Option<(&str, &'static str)> {
        None
    }

    /// As a person reads several, one below the other.
    fn list(views: &[Self], clock: &Clock) -> Text
    where
        Self: Sized,
    {
        views
            .iter()
            .fold(Text::new(), |text, view| text.and(view.text(clock)))
    }
}

/// A view's fields behind the name of its schema.
#[derive(Debug, Serialize)]
pub struct Object<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    view: &'a T,
}

/// `view` under the schema that [`Render`] gives it.
pub fn object<T: Render + Serialize>(view: &T) -> Object<'_, T> {
    Object {
        schema: T::SCHEMA,
        view,
    }
}

/// The first 8 digits of a message's id: enough to name it.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A key or conversation that has no name.
fn short_key(key: &str) -> String {
    format!("{}…", key.get(..12).unwrap_or(key))
}

/// A key as npub, short enough for a column and long enough to compare by eye.
fn short_npub(npub: &str) -> String {
    let tail = npub.len().checked_sub(6).and_then(|at| npub.get(at..));
    match (npub.get(..12), tail) {
        (Some(head), Some(tail)) if npub.len() > 20 => format!("{head}…{tail}"),
        _ => npub.to_owned(),
    }
}

//! Relays and file servers. Both are one view; the contract names them apart.

use client_core::view::ServerView;
use serde::Serialize;

use super::sending::outcome_line;
use super::{Clock, Render, object};
use crate::printer::text::{Line, Look, Text, widest};

/// `sotto.relay/1`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct RelayServer(pub ServerView);

/// `sotto.fileserver/1`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct FileServer(pub ServerView);

impl Render for RelayServer {
    const SCHEMA: &'static str = "sotto.relay/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        text(&self.0)
    }
}

impl Render for FileServer {
    const SCHEMA: &'static str = "sotto.fileserver/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        text(&self.0)
    }
}

fn text(view: &ServerView) -> Text {
    let line = match view.ok {
        Some(true) => Line::new().add(Look::Good, "✓ "),
        Some(false) => Line::new().add(Look::Bad, "✗ "),
        None => Line::new(),
    };
    let text = Text::new().line(line.plain(&view.url));
    let width = widest(view.checks.iter().map(|check| check.name.as_str()), 32);
    view.checks.iter().fold(text, |text, check| {
        text.line(outcome_line(check.ok, &check.name, width, &check.detail))
    })
}

//! What waits to be sent.

use client_core::view::OutboxView;
use serde::Serialize;

use super::sending::outcomes;
use super::{Clock, Render, object, short, short_key};
use crate::printer::text::{Line, Text};

impl Render for OutboxView {
    const SCHEMA: &'static str = "sotto.outbox_item/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, clock: &Clock) -> Text {
        let what = match &self.message {
            Some(id) => format!("message {}", short(id)),
            None => "notice to relays".to_owned(),
        };
        let mut line = Line::new().plain(&self.id).plain("  ").plain(what);
        if let Some(key) = &self.recipient {
            line = line.dim(" to ").plain(short_key(key));
        }
        let tries = match self.attempts {
            0 => "not tried yet".to_owned(),
            1 => "tried once".to_owned(),
            attempts => format!("tried {attempts} times"),
        };
        let next = clock.until(self.next_at);
        let line = line.dim(format!("  {tries}, next {next}"));
        outcomes(
            Text::new().line(line),
            &self.relays.iter().collect::<Vec<_>>(),
        )
    }
}

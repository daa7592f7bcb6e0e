//! What became of a message or a sync, relay by relay.

use client_core::view::{RelayOutcome, SentView, SyncView};
use serde::Serialize;

use super::message::sign;
use super::{Clock, Render, object, short};
use crate::printer::text::{Line, Look, Text, widest};

impl Render for SentView {
    const SCHEMA: &'static str = "sotto.sent/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn about(&self) -> Option<(&str, &'static str)> {
        Some((&self.id, self.status))
    }

    fn text(&self, clock: &Clock) -> Text {
        let (look, sign) = sign(self.status);
        let mut line = Line::new()
            .add(look, sign)
            .plain(" ")
            .add(look, self.status)
            .plain("  ")
            .dim(short(&self.id));
        for id in self.ids.iter().filter(|id| **id != self.id) {
            line = line.plain(" ").dim(short(id));
        }
        if let Some(at) = self.expires_at {
            line = line.dim(format!("  vanishes {}", clock.until(at)));
        }
        let relays: Vec<_> = self.recipients.iter().flat_map(|r| &r.relays).collect();
        outcomes(Text::new().line(line), &relays)
    }
}

impl Render for SyncView {
    const SCHEMA: &'static str = "sotto.synced/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let all = self.relays.iter().all(|relay| relay.ok);
        let (look, sign) = match (all, self.relays.iter().any(|relay| relay.ok)) {
            (true, _) => (Look::Good, "✓ "),
            (false, true) => (Look::Care, "… "),
            (false, false) => (Look::Bad, "✗ "),
        };
        let words = match self.new {
            0 => "nothing new".to_owned(),
            1 => "1 new message".to_owned(),
            new => format!("{new} new messages"),
        };
        let line = Line::new().add(look, sign).plain(words);
        outcomes(
            Text::new().line(line),
            &self.relays.iter().collect::<Vec<_>>(),
        )
    }
}

/// One line per relay.
pub(super) fn outcomes(text: Text, relays: &[&RelayOutcome]) -> Text {
    let width = widest(relays.iter().map(|relay| relay.url.as_str()), 48);
    relays.iter().fold(text, |text, relay| {
        text.line(outcome_line(relay.ok, &relay.url, width, &relay.detail))
    })
}

/// A sign, a place, and what was said there.
pub(super) fn outcome_line(ok: bool, place: &str, width: usize, detail: &str) -> Line {
    let line = if ok {
        Line::new().add(Look::Good, "  ✓ ")
    } else {
        Line::new().add(Look::Bad, "  ✗ ")
    };
    let line = line.plain(place);
    if detail.is_empty() {
        line
    } else {
        line.to_column(width.saturating_add(6)).dim(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_core::view::RecipientView;

    fn relay(url: &str, ok: bool, detail: &str) -> RelayOutcome {
        RelayOutcome {
            url: url.to_owned(),
            ok,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn every_relay_has_its_line() {
        let view = SentView {
            id: "ab".repeat(32),
            ids: Vec::new(),
            conversation: "cd".repeat(16),
            status: "accepted",
            expires_at: None,
            recipients: vec![RecipientView {
                pubkey: "ef".repeat(32),
                status: "accepted",
                relays: vec![
                    relay("wss://a.example", true, ""),
                    relay("wss://relay.b.example", false, "blocked: \u{1b}[31mno"),
                ],
            }],
        };
        assert_eq!(
            view.text(&Clock::standing(0)).to_plain(),
            "✓ accepted  abababab\n  ✓ wss://a.example\n  ✗ wss://relay.b.example  blocked: ␛[31mno\n"
        );
        let json = serde_json::to_value(view.object()).unwrap();
        assert_eq!(json["schema"], "sotto.sent/1");
        assert!(json.get("ids").is_none());
        assert_eq!(json["recipients"][0]["relays"][1]["ok"], false);
    }
}

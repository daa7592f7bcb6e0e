//! The erasure report: what is known of each place that a message was in.

use client_core::view::{DeletedView, StatusView};
use serde::Serialize;

use super::{Clock, Render, object, short, short_key};
use crate::printer::text::{Line, Look, Text, widest};

impl Render for DeletedView {
    const SCHEMA: &'static str = "sotto.deleted/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn about(&self) -> Option<(&str, &'static str)> {
        Some((&self.id, "deleted"))
    }

    fn text(&self, _: &Clock) -> Text {
        let places = self.relays.iter().chain(&self.file_servers);
        let width = widest(places.map(|place| place.url.as_str()), 48);
        let mut text = Text::new().line(
            Line::new()
                .add(Look::Good, "✓ deleted")
                .plain("  ")
                .dim(short(&self.id)),
        );
        for (kind, places) in [("relay", &self.relays), ("files", &self.file_servers)] {
            for place in places {
                let line = place_line(place.erased, kind, &place.url, width);
                text = text.line(line.dim(&place.detail));
            }
        }
        for peer in &self.peers {
            let (look, sign, words) = if peer.confirmed {
                (Look::Good, "  ✓ ", "confirmed")
            } else {
                (Look::Care, "  … ", "not yet confirmed")
            };
            let line = Line::new().add(look, sign).dim("peer").to_column(11);
            let line = line.plain(short_key(&peer.pubkey));
            text = text.line(line.to_column(width.saturating_add(13)).dim(words));
        }
        text
    }
}

fn place_line(erased: bool, kind: &str, url: &str, width: usize) -> Line {
    let (look, sign) = if erased {
        (Look::Good, "  ✓ ")
    } else {
        (Look::Bad, "  ✗ ")
    };
    Line::new()
        .add(look, sign)
        .dim(kind)
        .to_column(11)
        .plain(url)
        .to_column(width.saturating_add(13))
}

/// `message status`: either object, whichever the message is.
impl Render for StatusView {
    const SCHEMA: &'static str = "sotto.sent/1";

    fn object(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Either<'a> {
            Sent(super::Object<'a, client_core::view::SentView>),
            Deleted(super::Object<'a, DeletedView>),
        }
        match self {
            Self::Sent(view) => Either::Sent(object(view)),
            Self::Deleted(view) => Either::Deleted(object(view)),
        }
    }

    fn text(&self, clock: &Clock) -> Text {
        match self {
            Self::Sent(view) => view.text(clock),
            Self::Deleted(view) => view.text(clock),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_core::view::{ErasedView, PeerErasedView};

    #[test]
    fn the_report_says_what_is_known_of_each_place() {
        let erased = |url: &str, erased, detail: &str| ErasedView {
            url: url.to_owned(),
            erased,
            detail: detail.to_owned(),
        };
        let view = DeletedView {
            id: "ab".repeat(32),
            relays: vec![erased("wss://a.example", true, "accepted, not verifiable")],
            file_servers: vec![erased("https://files.example", false, "unreachable")],
            peers: vec![PeerErasedView {
                pubkey: "cd".repeat(32),
                confirmed: false,
            }],
        };
        assert_eq!(
            view.text(&Clock::standing(0)).to_plain(),
            "✓ deleted  abababab\n\
             \x20 ✓ relay  wss://a.example        accepted, not verifiable\n\
             \x20 ✗ files  https://files.example  unreachable\n\
             \x20 … peer   cdcdcdcdcdcd…          not yet confirmed\n"
        );
        let status = StatusView::Deleted(view);
        let json = serde_json::to_value(status.object()).unwrap();
        assert_eq!(json["schema"], "sotto.deleted/1");
        assert_eq!(json["peers"][0]["confirmed"], false);
    }
}

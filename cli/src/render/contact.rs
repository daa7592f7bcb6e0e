//! People and circles.

use client_core::view::{CircleView, ContactView};
use serde::Serialize;

use super::account::{field, list};
use super::{Clock, Render, object, short_npub};
use crate::printer::text::{Line, Look, Text, cut, widest};

/// Columns that a name may take in a list.
const NAME_COLUMNS: usize = 24;

impl Render for ContactView {
    const SCHEMA: &'static str = "sotto.contact/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        let mut text = Text::new();
        if let Some(alias) = &self.alias {
            text = text.line(field("alias").add(Look::Strong, alias));
        }
        text.line(field("key").plain(&self.npub))
            .line(marks(self, field("state")))
    }

    fn list(views: &[Self], _: &Clock) -> Text {
        let width = widest(
            views.iter().filter_map(|view| view.alias.as_deref()),
            NAME_COLUMNS,
        );
        views.iter().fold(Text::new(), |text, view| {
            let alias = cut(view.alias.as_deref().unwrap_or("–"), NAME_COLUMNS);
            let line = Line::new()
                .add(Look::Strong, alias)
                .to_column(width.saturating_add(2))
                .dim(short_npub(&view.npub))
                .plain("  ");
            text.line(marks(view, line))
        })
    }
}

fn marks(view: &ContactView, line: Line) -> Line {
    let line = if view.verified {
        line.add(Look::Good, "✓ verified")
    } else {
        line.dim("not verified")
    };
    if view.blocked {
        line.add(Look::Bad, "  ✗ blocked")
    } else {
        line
    }
}

impl Render for CircleView {
    const SCHEMA: &'static str = "sotto.circle/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, clock: &Clock) -> Text {
        let name = field("circle").add(Look::Strong, &self.name);
        let name = if self.current {
            name.dim("  (current)")
        } else {
            name
        };
        let mut text = Text::new()
            .line(name)
            .line(field("account").plain(&self.npub));
        text = list(text, "relays", &self.relays);
        text = list(text, "files", &self.file_servers);
        match self.expire_s {
            Some(seconds) => {
                text.line(field("vanish").plain(format!("after {}", clock.span(seconds))))
            }
            None => text,
        }
    }

    fn list(views: &[Self], _: &Clock) -> Text {
        let width = widest(views.iter().map(|view| view.name.as_str()), NAME_COLUMNS);
        views.iter().fold(Text::new(), |text, view| {
            let line = if view.current {
                Line::new().add(Look::Good, "* ")
            } else {
                Line::new().plain("  ")
            };
            text.line(
                line.add(Look::Strong, cut(&view.name, NAME_COLUMNS))
                    .to_column(width.saturating_add(4))
                    .dim(short_npub(&view.npub))
                    .plain("  ")
                    .plain(view.relays.join(" ")),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(alias: Option<&str>, verified: bool, blocked: bool) -> ContactView {
        ContactView {
            alias: alias.map(str::to_owned),
            pubkey: "3b".repeat(32),
            npub: "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6".to_owned(),
            verified,
            blocked,
        }
    }

    #[test]
    fn a_list_lines_up() {
        let views = [
            contact(Some("bob"), true, false),
            contact(Some("\u{1b}[31mcarol"), false, true),
        ];
        assert_eq!(
            ContactView::list(&views, &Clock::standing(0)).to_plain(),
            "bob         npub180cvv07…jh6w6  ✓ verified\n\
             ␛[31mcarol  npub180cvv07…jh6w6  not verified  ✗ blocked\n"
                .replace("…jh6w6", "…yjh6w6")
        );
    }

    #[test]
    fn the_object_has_the_contracts_fields() {
        let json = serde_json::to_value(contact(Some("bob"), true, false).object()).unwrap();
        assert_eq!(json["schema"], "sotto.contact/1");
        for field in ["alias", "pubkey", "npub", "verified", "blocked"] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }
}

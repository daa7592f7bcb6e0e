//! Messages, conversations and the stream of what happens.

use client_core::view::{ConversationView, EventView, FileView, MessageView, SavedFileView};
use serde::Serialize;

use super::account::field;
use super::{Clock, Object, Render, object, short, short_key, size};
use crate::printer::text::{Line, Look, Text, cut, widest};

/// Columns that a name may take in a list.
const NAME_COLUMNS: usize = 20;
/// Columns of a message's first line in the inbox.
const PREVIEW_COLUMNS: usize = 48;

impl Render for MessageView {
    const SCHEMA: &'static str = "sotto.message/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, clock: &Clock) -> Text {
        let mut text = Text::new()
            .line(field("id").dim(&self.id))
            .line(
                field("from")
                    .add(Look::Strong, author(self))
                    .dim(format!("  {}", self.from)),
            )
            .line(field("sent").plain(clock.moment(self.sent_at)))
            .line(state(self, field("status")));
        if let Some(at) = self.expires_at {
            text = text.line(field("vanishes").plain(clock.until(at)));
        }
        if let Some(id) = &self.reply_to {
            text = text.line(field("answers").dim(id));
        }
        for file in &self.files {
            text = text.line(field("file").plain(describe(file)));
        }
        if self.text.is_empty() {
            text
        } else {
            text.line(Line::new()).block(Line::new(), &self.text)
        }
    }

    fn list(views: &[Self], clock: &Clock) -> Text {
        let columns = Columns::of(views, clock);
        let text = views
            .iter()
            .fold(Text::new(), |text, view| row(text, view, &columns, clock));
        match views.iter().find(|view| view.request) {
            Some(view) => text.line(accept(&view.from)),
            None => text,
        }
    }
}

/// Where the columns of a list begin.
struct Columns {
    time: usize,
    name: usize,
    mark: usize,
    text: usize,
}

impl Columns {
    fn of(views: &[MessageView], clock: &Clock) -> Self {
        let names: Vec<_> = views.iter().map(author).collect();
        let times: Vec<_> = views
            .iter()
            .map(|view| clock.moment(view.sent_at))
            .collect();
        let wide = |texts: &[String], limit| widest(texts.iter().map(String::as_str), limit);
        let time = 10_usize;
        let name = time.saturating_add(wide(&times, 16)).saturating_add(2);
        let mark = name
            .saturating_add(wide(&names, NAME_COLUMNS))
            .saturating_add(2);
        let has_marks = views.iter().any(|view| view.direction == "out");
        Self {
            time,
            name,
            mark,
            text: mark.saturating_add(if has_marks { 3 } else { 0 }),
        }
    }
}

/// One message in a list: id, time, author, how far it came, text, and below it what else is to
/// be known.
fn row(text: Text, view: &MessageView, columns: &Columns, clock: &Clock) -> Text {
    let is_out = view.direction == "out";
    let look = if is_out { Look::Dim } else { Look::Strong };
    let line = Line::new()
        .dim(short(&view.id))
        .to_column(columns.time)
        .dim(clock.moment(view.sent_at))
        .to_column(columns.name)
        .add(look, cut(&author(view), NAME_COLUMNS))
        .to_column(columns.mark);
    let line = if is_out {
        let (look, sign) = sign(view.status);
        line.add(look, sign).to_column(columns.text)
    } else {
        line.plain(" ".repeat(columns.text.saturating_sub(columns.mark)))
    };
    let mut body: Vec<String> = view.files.iter().map(describe).collect();
    if !view.text.is_empty() {
        body.insert(0, view.text.clone());
    }
    let text = text.block(line, &body.join("\n"));
    let tail = tail(view, clock);
    if tail.width() == 0 {
        return text;
    }
    // It goes below and not behind: a long text would push it off the screen.
    let indent = Line::new().plain(" ".repeat(columns.text));
    text.line(indent.join(tail))
}

/// What is to be known of a message besides its text; nothing where all is as usual.
fn tail(view: &MessageView, clock: &Clock) -> Line {
    let mut line = Line::new();
    if matches!(view.status, "queued" | "refused") {
        line = line.add(sign(view.status).0, view.status);
    }
    if let Some(id) = &view.reply_to {
        line = spaced(line).dim(format!("answers {}", short(id)));
    }
    if let Some(at) = view.expires_at {
        line = spaced(line).dim(format!("vanishes {}", clock.until(at)));
    }
    line
}

/// How a stranger becomes a contact.
fn accept(key: &str) -> Line {
    Line::new()
        .add(Look::Care, "? a stranger; accept with  ")
        .add(Look::Link, format!("sotto contact add {key}"))
}

fn spaced(line: Line) -> Line {
    if line.width() == 0 {
        line
    } else {
        line.plain("  ")
    }
}

fn state(view: &MessageView, line: Line) -> Line {
    let (look, sign) = sign(view.status);
    line.add(look, sign).plain(" ").add(look, view.status)
}

/// How far a message came, as a colour and a sign.
pub(super) fn sign(status: &str) -> (Look, &'static str) {
    match status {
        "queued" => (Look::Care, "…"),
        "delivered" | "read" => (Look::Good, "✓✓"),
        "refused" => (Look::Bad, "✗"),
        _ => (Look::Good, "✓"),
    }
}

fn author(view: &MessageView) -> String {
    match (&view.from_alias, view.direction) {
        (_, "out") => "you".to_owned(),
        (Some(alias), _) => alias.clone(),
        (None, _) => short_key(&view.from),
    }
}

fn describe(file: &FileView) -> String {
    match file.size {
        Some(bytes) => format!("[{}, {}, {}]", file.name, size(bytes), file.mime),
        None => format!("[{}, {}]", file.name, file.mime),
    }
}

#[derive(Serialize)]
struct ConversationObject<'a> {
    schema: &'static str,
    conversation: &'a str,
    alias: Option<&'a str>,
    members: &'a [String],
    unread: u64,
    last: Option<Object<'a, MessageView>>,
    request: bool,
}

impl Render for ConversationView {
    const SCHEMA: &'static str = "sotto.conversation/1";

    fn object(&self) -> impl Serialize + '_ {
        ConversationObject {
            schema: Self::SCHEMA,
            conversation: &self.conversation,
            alias: self.alias.as_deref(),
            members: &self.members,
            unread: self.unread,
            last: self.last.as_ref().map(object),
            request: self.request,
        }
    }

    fn text(&self, clock: &Clock) -> Text {
        Self::list(std::slice::from_ref(self), clock)
    }

    fn list(views: &[Self], clock: &Clock) -> Text {
        let names: Vec<_> = views.iter().map(name_of).collect();
        let width = widest(names.iter().map(String::as_str), NAME_COLUMNS);
        let times: Vec<_> = views
            .iter()
            .map(|view| {
                view.last
                    .as_ref()
                    .map(|last| clock.moment(last.sent_at))
                    .unwrap_or_default()
            })
            .collect();
        let time_width = widest(times.iter().map(String::as_str), 16);
        let name_column = 5_usize;
        let time_column = name_column.saturating_add(width).saturating_add(2);
        let text_column = time_column.saturating_add(time_width).saturating_add(2);
        let rows = views.iter().zip(names).zip(times);
        rows.fold(Text::new(), |text, ((view, name), time)| {
            let line = match view.unread {
                0 => Line::new(),
                unread => Line::new().add(Look::Good, format!("{unread:>3}")),
            };
            let look = if view.unread > 0 {
                Look::Strong
            } else {
                Look::Plain
            };
            let line = line
                .to_column(name_column)
                .add(look, cut(&name, NAME_COLUMNS))
                .to_column(time_column)
                .dim(time)
                .to_column(text_column);
            let line = match &view.last {
                Some(last) if last.direction == "out" => line.dim("you: ").plain(preview(last)),
                Some(last) => line.plain(preview(last)),
                None => line.dim("–"),
            };
            let text = text.line(line);
            match view.members.first() {
                Some(key) if view.request => {
                    let indent = Line::new().plain(" ".repeat(name_column));
                    text.line(indent.join(accept(key)))
                }
                _ => text,
            }
        })
    }
}

fn name_of(view: &ConversationView) -> String {
    match (&view.alias, view.members.first()) {
        (Some(alias), _) => alias.clone(),
        (None, Some(key)) => short_key(key),
        (None, None) => "myself".to_owned(),
    }
}

fn preview(view: &MessageView) -> String {
    let first = view.text.lines().next().unwrap_or_default();
    let text = match (first, view.files.first()) {
        ("", Some(file)) => describe(file),
        (first, _) => first.to_owned(),
    };
    cut(&text, PREVIEW_COLUMNS)
}

#[derive(Serialize)]
struct EventObject<'a> {
    schema: &'static str,
    seq: i64,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Object<'a, MessageView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}

impl Render for EventView {
    const SCHEMA: &'static str = "sotto.event/1";

    fn object(&self) -> impl Serialize + '_ {
        EventObject {
            schema: Self::SCHEMA,
            seq: self.seq,
            kind: self.kind,
            message: self.message.as_ref().map(object),
            id: self.id.as_deref(),
            status: self.status.as_deref(),
        }
    }

    fn text(&self, clock: &Clock) -> Text {
        if let Some(message) = &self.message {
            return MessageView::list(std::slice::from_ref(message), clock);
        }
        let line = Line::new()
            .dim(short(self.id.as_deref().unwrap_or("–")))
            .to_column(10)
            .dim(clock.moment(clock.now()))
            .plain("  ");
        let line = match (self.kind, self.status.as_deref()) {
            ("receipt", Some(status)) => line.add(Look::Good, "✓✓ ").plain(status),
            ("delete", _) => line.dim("deleted"),
            ("expire", _) => line.dim("vanished"),
            (kind, _) => line.dim(kind),
        };
        Text::new().line(line)
    }
}

impl Render for SavedFileView {
    const SCHEMA: &'static str = "sotto.file/1";

    fn object(&self) -> impl Serialize + '_ {
        object(self)
    }

    fn text(&self, _: &Clock) -> Text {
        Text::new().line(
            Line::new()
                .add(Look::Good, "✓ ")
                .add(Look::Strong, &self.path)
                .dim(format!("  {}, {}", size(self.size), self.mime)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-23 12:00:00 UTC.
    const NOON: u64 = 1_795_435_200;

    fn message(direction: &'static str, text: &str) -> MessageView {
        MessageView {
            seq: 7,
            id: "3f2a9c1b".repeat(8),
            circle: "personal".to_owned(),
            conversation: "aa".repeat(16),
            direction,
            from: "bb".repeat(32),
            from_alias: (direction == "in").then(|| "bob".to_owned()),
            kind: "text",
            text: text.to_owned(),
            files: Vec::new(),
            sent_at: NOON - 60,
            received_at: NOON - 50,
            expires_at: None,
            reply_to: None,
            reactions: Vec::new(),
            edited: false,
            status: if direction == "in" {
                "received"
            } else {
                "queued"
            },
            request: false,
            forward_secret: false,
        }
    }

    #[test]
    fn a_conversation_reads_like_one() {
        let mut vanishing = message("out", "soon gone\nand this line");
        vanishing.expires_at = Some(NOON + 120);
        let mut file = message("in", "");
        file.files.push(FileView {
            name: "../p\u{1b}[1mhoto.jpg".to_owned(),
            size: Some(34_500),
            mime: "image/jpeg".to_owned(),
            sha256: None,
        });
        let views = [message("in", "hello\u{1b}[2J"), vanishing, file];
        assert_eq!(
            MessageView::list(&views, &Clock::standing(NOON)).to_plain(),
            "3f2a9c1b  11:59  bob     hello␛[2J\n\
             3f2a9c1b  11:59  you  …  soon gone\n                         and this line\n                         queued  vanishes in 2 min\n\
             3f2a9c1b  11:59  bob     [../p␛[1mhoto.jpg, 34 kB, image/jpeg]\n"
        );
    }

    #[test]
    fn an_inbox_has_one_line_per_conversation() {
        let views = [
            ConversationView {
                conversation: "aa".repeat(16),
                alias: Some("bob".to_owned()),
                members: vec!["bb".repeat(32)],
                unread: 2,
                last: Some(message("in", "first line\nsecond")),
                request: false,
            },
            ConversationView {
                conversation: "cc".repeat(16),
                alias: None,
                members: vec!["dd".repeat(32)],
                unread: 0,
                last: Some(message("out", "bye")),
                request: true,
            },
        ];
        assert_eq!(
            ConversationView::list(&views, &Clock::standing(NOON)).to_plain(),
            format!(
                "  2  bob            11:59  first line\n     \
                 dddddddddddd…  11:59  you: bye\n     \
                 ? a stranger; accept with  sotto contact add {}\n",
                "dd".repeat(32)
            )
        );
        let json = serde_json::to_value(views[0].object()).unwrap();
        assert_eq!(json["schema"], "sotto.conversation/1");
        assert_eq!(json["last"]["schema"], "sotto.message/1");
        assert_eq!(json["last"]["text"], "first line\nsecond");
    }

    #[test]
    fn events_carry_the_contracts_fields() {
        let event = EventView {
            seq: 9,
            kind: "receipt",
            message: None,
            id: Some("ab".repeat(32)),
            status: Some("delivered".to_owned()),
        };
        let json = serde_json::to_string(&event.object()).unwrap();
        assert!(json.starts_with(r#"{"schema":"sotto.event/1","seq":9,"type":"receipt","id":"ab"#));
        let text = event.text(&Clock::standing(NOON)).to_plain();
        assert_eq!(text, "abababab  12:00  ✓✓ delivered\n");
    }
}

//! Text for people: lines of styled spans. Whatever is put in is made harmless on the way, so a
//! renderer cannot forget it.

use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::harmless::{harmless, harmless_lines};

/// How a span looks. Colour never carries meaning alone: every state has a word or sign as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// As the terminal writes.
    #[default]
    Plain,
    /// Names and totals.
    Strong,
    /// Ids, times, details.
    Dim,
    /// It held.
    Good,
    /// It waits, or needs care.
    Care,
    /// It failed.
    Bad,
    /// A link, or a command to type.
    Link,
}

impl Look {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Care => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Link => AnsiColor::Cyan.on_default(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, Default)]
pub struct Line {
    spans: Vec<(Look, String)>,
    width: usize,
}

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `text`, made harmless.
    pub fn add(mut self, look: Look, text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref()).into_owned();
        self.width = self.width.saturating_add(text.width());
        self.spans.push((look, text));
        self
    }

    /// Adds `text` as the terminal writes.
    pub fn plain(self, text: impl AsRef<str>) -> Self {
        self.add(Look::Plain, text)
    }

    /// Adds `text` faintly.
    pub fn dim(self, text: impl AsRef<str>) -> Self {
        self.add(Look::Dim, text)
    }

    /// Adds what another line holds.
    pub fn join(mut self, other: Self) -> Self {
        self.width = self.width.saturating_add(other.width);
        self.spans.extend(other.spans);
        self
    }

    /// Adds spaces until the line is `column` columns wide, and two where it is that wide
    /// already and would run into what follows.
    pub fn to_column(self, column: usize) -> Self {
        let gap = match column.checked_sub(self.width) {
            Some(0) | None => 2,
            Some(gap) => gap,
        };
        self.plain(" ".repeat(gap))
    }

    /// Columns that it takes on a terminal.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// Some lines.
#[derive(Debug, Clone, Default)]
pub struct Text {
    lines: Vec<Line>,
}

impl Text {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// One line as it is.
    pub fn of(text: impl AsRef<str>) -> Self {
        Self::new().line(Line::new().plain(text))
    }

    /// Adds a line.
    pub fn line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds `first` and behind it the text of a message: each further line starts at the column
    /// where the first one's text does, so that no line of a stranger's looks like ours.
    pub fn block(mut self, first: Line, text: &str) -> Self {
        let indent = first.width();
        let mut next = Some(first);
        for line in harmless_lines(text) {
            let start = next
                .take()
                .unwrap_or_else(|| Line::new().plain(" ".repeat(indent)));
            self.lines.push(start.plain(line));
        }
        self.lines.extend(next);
        self
    }

    /// The same, `columns` further to the right.
    pub fn indented(self, columns: usize) -> Self {
        let space = || Line::new().plain(" ".repeat(columns));
        Self {
            lines: self
                .lines
                .into_iter()
                .map(|line| space().join(line))
                .collect(),
        }
    }

    /// Appends other lines.
    pub fn and(mut self, other: Self) -> Self {
        self.lines.extend(other.lines);
        self
    }

    /// Whether there is nothing to print.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// With ANSI styles, each line ended; the stream strips them where it shows none.
    pub fn to_ansi(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            for (look, text) in &line.spans {
                let style = look.style();
                out.push_str(&format!("{style}{text}{style:#}"));
            }
            // Padding in front of an empty last column.
            let kept = out.trim_end_matches(' ').len();
            out.truncate(kept);
            out.push('\n');
        }
        out
    }

    /// Without styles, each line ended.
    pub fn to_plain(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let text: String = line.spans.iter().map(|(_, text)| text.as_str()).collect();
            out.push_str(text.trim_end_matches(' '));
            out.push('\n');
        }
        out
    }
}

/// How many columns the widest of `texts` takes once it is harmless, at most `limit`.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, limit: usize) -> usize {
    texts
        .into_iter()
        .map(|text| harmless(text).width())
        .max()
        .unwrap_or(0)
        .min(limit)
}

/// `text` cut to `columns`, with an ellipsis where something was left out.
pub fn cut(text: &str, columns: usize) -> String {
    let text = harmless(text);
    if text.width() <= columns {
        return text.into_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if out.width() >= columns {
            out.pop();
            break;
        }
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_any_script() {
        let text = Text::new()
            .line(Line::new().plain("bob").to_column(8).plain("x"))
            .line(Line::new().plain("日本").to_column(8).plain("x"));
        assert_eq!(text.to_plain(), "bob     x\n日本    x\n");
    }

    #[test]
    fn a_second_line_of_a_message_cannot_pose_as_a_line_of_ours() {
        let text = Text::new().block(
            Line::new().dim("3f2a9c1b").plain("  "),
            "hi\nerror: no\u{1b}",
        );
        assert_eq!(text.to_plain(), "3f2a9c1b  hi\n          error: no␛\n");
    }

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello there", 6), "hello…");
        assert_eq!(cut("日本語日本語", 6), "日本…");
    }

    #[test]
    fn a_span_of_a_stranger_holds_no_line_end() {
        let line = Line::new().plain("a\nb");
        assert_eq!(Text::new().line(line).to_plain(), "a␊b\n");
    }
}

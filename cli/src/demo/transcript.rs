//! What the audience sees: titles, lines of dialogue, and one mark for each step.

use std::time::Duration;

use client_core::Error;
use serde::Serialize;

use crate::printer::text::{Line, Look, Text};
use crate::printer::{Mode, Printer};

/// Columns of a step's name, so that the details line up.
const NAME_COLUMNS: usize = 54;

/// Prints the acts and counts what held.
pub struct Transcript<'a> {
    printer: &'a mut Printer,
    acts: usize,
    held: usize,
    failed: usize,
}

/// `sotto.demo_step/1`.
#[derive(Serialize)]
struct Step<'a, T> {
    schema: &'static str,
    step: &'a str,
    ok: bool,
    detail: &'a str,
    #[serde(flatten)]
    more: T,
}

/// Nothing beside the step's own fields.
#[derive(Serialize)]
struct Nothing {}

impl<'a> Transcript<'a> {
    /// Nothing has happened yet.
    pub fn new(printer: &'a mut Printer) -> Self {
        Self {
            printer,
            acts: 0,
            held: 0,
            failed: 0,
        }
    }

    /// Begins an act.
    pub fn act(&mut self, title: &str) {
        self.acts = self.acts.saturating_add(1);
        let number = self.acts.to_string();
        let title = Line::new()
            .dim(number)
            .to_column(3)
            .add(Look::Strong, title);
        self.print(Text::new().line(Line::new()).line(title));
    }

    /// Somebody says something.
    pub fn says(&mut self, from: &str, to: &str, words: &str) {
        let line = Line::new()
            .to_column(3)
            .add(Look::Link, from)
            .dim(" → ")
            .add(Look::Link, to)
            .plain(format!("  “{words}”"));
        self.print(Text::new().line(line));
    }

    /// Something to look at, below the steps.
    pub fn show(&mut self, text: Text) {
        let text = text.indented(5);
        self.print(text);
    }

    /// A table that has its own margin.
    pub fn show_table(&mut self, text: Text) {
        self.print(text);
    }

    fn print(&mut self, text: Text) {
        if self.printer.mode() == Mode::Text {
            // A reader who has left needs no more lines; the exit code still tells.
            let _ = self.printer.text(&text);
        }
    }

    /// A promise, and whether it held.
    pub fn step(&mut self, name: &str, ok: bool, detail: impl AsRef<str>) {
        self.step_with(name, ok, detail, Nothing {});
    }

    /// The same with more fields for programs.
    pub fn step_with(
        &mut self,
        name: &str,
        ok: bool,
        detail: impl AsRef<str>,
        more: impl Serialize,
    ) {
        let count = if ok { &mut self.held } else { &mut self.failed };
        *count = count.saturating_add(1);
        let detail = detail.as_ref();
        if self.printer.mode() == Mode::Json {
            let _ = self.printer.json(&Step {
                schema: "sotto.demo_step/1",
                step: name,
                ok,
                detail,
                more,
            });
            return;
        }
        let (look, sign) = if ok {
            (Look::Good, "✓ ")
        } else {
            (Look::Bad, "✗ ")
        };
        let line = Line::new().to_column(3).add(look, sign).plain(name);
        let line = if detail.is_empty() {
            line
        } else {
            line.to_column(NAME_COLUMNS).dim(detail)
        };
        self.print(Text::new().line(line));
    }

    /// An act could not go on.
    pub fn broke_off(&mut self, act: &str, error: &Error) {
        let name = format!("{act}: broke off");
        let detail = match &error.hint {
            Some(hint) => format!("{}: {} ({hint})", error.word.as_str(), error.detail),
            None => format!("{}: {}", error.word.as_str(), error.detail),
        };
        self.step(&name, false, detail);
    }

    /// The last line; gives how many steps held and how many did not.
    pub fn close(mut self, took: Duration) -> (usize, usize) {
        let seconds = format!("{:.1} s", took.as_secs_f64());
        let line = if self.failed == 0 {
            Line::new()
                .add(Look::Good, format!("All {} steps held", self.held))
                .dim(format!(", in {seconds}. Nothing is left behind."))
        } else {
            Line::new()
                .add(Look::Bad, format!("{} steps failed", self.failed))
                .dim(format!(", {} held, in {seconds}.", self.held))
        };
        self.print(Text::new().line(Line::new()).line(line));
        (self.held, self.failed)
    }
}

/// `words` in front of what was measured.
pub fn took(words: impl AsRef<str>, since: std::time::Instant) -> String {
    format!("{}, {} ms", words.as_ref(), since.elapsed().as_millis())
}

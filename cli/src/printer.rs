//! The one printer. Everything that this program shows passes here: text for people or JSON for
//! programs on stdout, errors, warnings and notes on stderr, and nothing that a terminal obeys.

pub mod harmless;
pub mod text;

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use client_core::{Error, ErrorWord};
use serde::Serialize;

use crate::failure::Failure;
use crate::render::{Clock, Render};
use harmless::harmless_json;
use text::{Line, Look, Text};

/// Writes results to stdout and everything else to stderr.
pub struct Printer {
    out: AutoStream<io::Stdout>,
    err: AutoStream<io::Stderr>,
    mode: Mode,
    quiet: bool,
    closed: bool,
    clock: Clock,
}

/// For whom stdout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// People.
    Text,
    /// Programs: JSON Lines.
    Json,
}

impl Printer {
    /// For this process. `quiet` hides warnings and notes.
    pub fn new(mode: Mode, quiet: bool, color: ColorChoice) -> Self {
        Self {
            out: AutoStream::new(io::stdout(), color),
            err: AutoStream::new(io::stderr(), color),
            mode,
            quiet,
            closed: false,
            clock: Clock::local(),
        }
    }

    /// For whom stdout is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How times are shown.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the reader of stdout has gone: a stream may stop.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// One object or its text.
    pub fn show<T: Render>(&mut self, view: &T) -> client_core::Result<()> {
        match self.mode {
            Mode::Json => self.json(&view.object()),
            Mode::Text => {
                let text = view.text(&self.clock);
                self.text(&text)
            }
        }
    }

    /// A list: JSON Lines, or a text in which the lines know each other's widths.
    pub fn show_all<T: Render>(&mut self, views: &[T]) -> client_core::Result<()> {
        match self.mode {
            Mode::Json => views.iter().try_for_each(|view| self.json(&view.object())),
            Mode::Text => {
                let text = T::list(views, &self.clock);
                self.text(&text)
            }
        }
    }

    /// Lines for people.
    pub fn text(&mut self, text: &Text) -> client_core::Result<()> {
        self.raw(text.to_ansi().as_bytes())
    }

    /// One object on one line.
    pub fn json(&mut self, object: &impl Serialize) -> client_core::Result<()> {
        let json = serde_json::to_string(object)
            .map_err(|error| Error::new(ErrorWord::Internal, error.to_string()))?;
        self.raw(format!("{}\n", harmless_json(&json)).as_bytes())
    }

    /// Bytes as they are: a received file on `-`, completions, a man page. A reader that has
    /// gone ends the output quietly; any other failure is an error, so that a full disk behind
    /// `>` never looks like success.
    pub fn raw(&mut self, bytes: &[u8]) -> client_core::Result<()> {
        if self.closed {
            return Ok(());
        }
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other.map_err(|error| {
                let cause = Error::from(error);
                Error::new(cause.word, format!("stdout: {}", cause.detail))
            }),
        }
    }

    /// A warning: always on stderr, unless `-q`.
    pub fn warn(&mut self, warning: &str) {
        if self.quiet {
            return;
        }
        match self.mode {
            Mode::Json => self.err_json(&Warning {
                schema: "sotto.warning/1",
                detail: warning,
            }),
            Mode::Text => {
                let line = Line::new().add(Look::Care, "warning: ").plain(warning);
                self.err_text(&Text::new().line(line));
            }
        }
    }

    /// A note: advice for a person who looks on; only on a terminal.
    pub fn note(&mut self, text: &Text) {
        if self.shows_notes() {
            self.err_text(text);
        }
    }

    /// Whether somebody sees notes and progress.
    pub fn shows_notes(&self) -> bool {
        !self.quiet && self.mode == Mode::Text && io::stderr().is_terminal()
    }

    /// What went wrong, and what to do about it.
    pub fn failure(&mut self, failure: &Failure) {
        let error = &failure.error;
        match self.mode {
            Mode::Json => self.err_json(&failure.object()),
            Mode::Text => {
                let mut text = Text::new().block(
                    Line::new().add(Look::Bad, "error: "),
                    error.detail.trim_end(),
                );
                if let Some(seconds) = error.retry_after_s {
                    let wait = self.clock.span(seconds);
                    text = text.line(Line::new().dim(" wait: ").plain(wait));
                }
                if let Some(hint) = &error.hint {
                    text = text.block(Line::new().dim(" hint: "), hint);
                }
                self.err_text(&text);
            }
        }
    }

    fn err_json(&mut self, object: &impl Serialize) {
        if let Ok(json) = serde_json::to_string(object) {
            // Nobody is left to tell that stderr is gone.
            let _ = writeln!(self.err, "{}", harmless_json(&json));
        }
    }

    fn err_text(&mut self, text: &Text) {
        let _ = self.err.write_all(text.to_ansi().as_bytes());
        let _ = self.err.flush();
    }
}

#[derive(Serialize)]
struct Warning<'a> {
    schema: &'static str,
    detail: &'a str,
}

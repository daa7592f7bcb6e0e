//! The log of the program, on stderr: lines for people, or one JSON object a line.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field of a line that has many counts by name, as `a=1 b=2`: how many there are depends on
/// what happened, and the fields of a line are set when the program is compiled.
const COUNTS: &str = "counts";

/// From now on what happens is written.
pub fn start(json: bool, quiet: bool, verbose: u8) {
    // Of the libraries only what is wrong: some of them would write whom they talk to.
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,sotto_relay=info",
        (false, _) => "warn,sotto_relay=debug",
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match json {
        true => builder.event_format(Objects).init(),
        false => builder.with_target(false).init(),
    }
}

/// One object a line.
struct Objects;

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let about = event.metadata();
        let line = json!({
            "timestamp": timestamp,
            "level": about.level().as_str(),
            "fields": fields.0,
            "target": about.target(),
        });
        writeln!(writer, "{line}")
    }
}

/// What a line says, by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let counts = (field.name() == COUNTS).then(|| counts(value)).flatten();
        let value = counts.unwrap_or_else(|| value.into());
        self.0.insert(field.name().to_owned(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}").into();
        self.0.insert(field.name().to_owned(), value);
    }
}

/// `a=1 b=2` as an object; none where it is something else.
fn counts(text: &str) -> Option<Value> {
    let count = |word: &str| {
        let (name, count) = word.split_once('=')?;
        Some((name.to_owned(), count.parse::<u64>().ok()?.into()))
    };
    let counts: Option<Map<String, Value>> = text.split(' ').map(count).collect();
    counts.map(Value::Object)
}

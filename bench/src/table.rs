//! The one table that a run prints.

/// Rows of a run, in order.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    figure: String,
    bar: String,
    verdict: &'static str,
}

/// Which side of the bar is good.
pub enum Bar {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// No bar yet: reported only.
    None,
}

impl Table {
    /// Adds a row: what was measured, its value, how to print the value, and the bar.
    pub fn row(&mut self, what: &str, value: f64, unit: &str, note: &str, bar: Bar) {
        let (bar, verdict) = match bar {
            Bar::AtLeast(least) => (
                format!(">= {least}"),
                if value >= least { "met" } else { "MISSED" },
            ),
            Bar::AtMost(most) => (
                format!("<= {most}"),
                if value <= most { "met" } else { "MISSED" },
            ),
            Bar::None => ("-".to_owned(), "reported"),
        };
        let figure = format!("{value:.2}{unit} {note}");
        self.rows.push(Row {
            what: what.to_owned(),
            figure,
            bar,
            verdict,
        });
    }

    /// Prints it on stdout.
    #[allow(clippy::print_stdout, reason = "printing is this program's purpose")]
    pub fn print(&self) {
        let width = |pick: fn(&Row) -> &str| {
            self.rows
                .iter()
                .map(|row| pick(row).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (what, figure, bar) = (width(|r| &r.what), width(|r| &r.figure), width(|r| &r.bar));
        println!();
        println!(
            "| {:what$} | {:figure$} | {:bar$} | verdict  |",
            "what", "figure", "bar"
        );
        println!(
            "| {:-<what$} | {:-<figure$} | {:-<bar$} | -------- |",
            "", "", ""
        );
        for row in &self.rows {
            println!(
                "| {:what$} | {:figure$} | {:bar$} | {:8} |",
                row.what, row.figure, row.bar, row.verdict
            );
        }
    }
}

//! `sotto inbox`

use client_core::client::Outcome;

use crate::context::{Context, Ended};
use crate::printer::text::{Line, Look, Text};

pub async fn run(context: &mut Context) -> Ended {
    let mut client = context.open().await?;
    let views = client.inbox()?;
    if views.is_empty() {
        let program = context.program();
        let line = Line::new()
            .dim("Nothing here yet. Fetch with ")
            .add(Look::Link, format!("{program} sync"))
            .dim(", or give somebody your ")
            .add(Look::Link, format!("{program} invite"));
        context.printer.note(&Text::new().line(line));
    }
    context.end_list(client, Outcome::done(views)).await
}

//! `sotto outbox`

use client_core::client::Outcome;
use client_core::{Error, ErrorWord};

use crate::args::Outbox;
use crate::context::{Context, Ended};

pub async fn run(context: &mut Context, command: Outbox) -> Ended {
    let mut client = context.open().await?;
    match command {
        Outbox::List => {
            let views = client.outbox()?;
            context.end_list(client, Outcome::done(views)).await
        }
        Outbox::Flush => {
            let outcome = client.flush().await?;
            context.end_list(client, outcome).await
        }
        Outbox::Cancel { id } => {
            let view = client
                .outbox()?
                .into_iter()
                .find(|item| item.id == id)
                .ok_or_else(|| Error::new(ErrorWord::NotFound, "nothing of that id waits"))?;
            client.cancel(&id)?;
            context.end(client, Outcome::done(view)).await
        }
    }
}

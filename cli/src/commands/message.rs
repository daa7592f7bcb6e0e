//! `sotto message`

use std::ops::ControlFlow;

use client_core::client::Outcome;
use client_core::{Error, ErrorWord};

use crate::args::Message;
use crate::context::{Context, Ended};

pub async fn run(context: &mut Context, command: Message) -> Ended {
    let mut client = context.open().await?;
    match command {
        Message::List { who, limit, before } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let views = client.messages(&who, limit, before.as_deref())?;
            context.end_list(client, Outcome::done(views)).await
        }
        Message::Show { id } => {
            let view = client.message(&id)?;
            context.end(client, Outcome::done(view)).await
        }
        Message::Delete { id, for_everyone } => {
            let outcome = client.delete(&id, for_everyone).await?;
            context.end(client, outcome).await
        }
        Message::Status { id } => {
            let view = client.status(&id).await?;
            context.end(client, Outcome::done(view)).await
        }
        Message::Watch { from_seq } => {
            context.pass_on_warnings(&mut client);
            let printer = &mut context.printer;
            let mut failed = None;
            let watching = client.watch(from_seq, |event| match printer.show(&event) {
                Ok(()) if printer.is_closed() => ControlFlow::Break(()),
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            });
            // Without a limit of its own it goes on until Ctrl-C, or its reader leaves.
            match context.global.timeout {
                None => watching.await?,
                Some(limit) => tokio::time::timeout(limit, watching)
                    .await
                    .map_err(|_| Error::new(ErrorWord::Timeout, "the time to watch is over"))??,
            }
            failed.map_or(Ok(()), |error| Err(error.into()))
        }
    }
}

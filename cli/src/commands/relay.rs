//! `sotto relay`

use client_core::client::Outcome;
use client_core::view::ServerView;

use crate::args::Relay;
use crate::context::{Context, Ended};
use crate::render::RelayServer;

pub async fn run(context: &mut Context, command: Relay) -> Ended {
    let mut client = context.open().await?;
    let outcome: Outcome<ServerView> = match command {
        Relay::List => {
            let views = client.relays()?.into_iter().map(RelayServer).collect();
            return context.end_list(client, Outcome::done(views)).await;
        }
        Relay::Add { url } => match url.code {
            Some(code) => client.join_relay(url.url, code).await?,
            None => client.add_relay(url.url).await?,
        },
        Relay::Remove { url } => client.remove_relay(&url).await?,
        Relay::Check { url } => client.check_relay(&url).await?,
    };
    let outcome = Outcome {
        value: RelayServer(outcome.value),
        error: outcome.error,
    };
    context.end(client, outcome).await
}

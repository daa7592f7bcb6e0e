//! `sotto fileserver`

use client_core::client::Outcome;
use client_core::view::ServerView;

use crate::args::Fileserver;
use crate::context::{Context, Ended};
use crate::render::FileServer;

pub async fn run(context: &mut Context, command: Fileserver) -> Ended {
    let mut client = context.open().await?;
    let outcome: Outcome<ServerView> = match command {
        Fileserver::List => {
            let views = client.file_servers()?.into_iter().map(FileServer).collect();
            return context.end_list(client, Outcome::done(views)).await;
        }
        Fileserver::Add { url } => client.add_file_server(url).await?,
        Fileserver::Remove { url } => client.remove_file_server(&url).await?,
        Fileserver::Check { url } => client.check_file_server(&url).await?,
    };
    let outcome = Outcome {
        value: FileServer(outcome.value),
        error: outcome.error,
    };
    context.end(client, outcome).await
}

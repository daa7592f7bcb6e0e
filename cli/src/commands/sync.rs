//! `sotto sync`

use crate::context::{Context, Ended};

pub async fn run(context: &mut Context) -> Ended {
    let mut client = context.open().await?;
    let outcome = client.sync().await?;
    context.end(client, outcome).await
}

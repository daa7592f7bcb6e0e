//! `sotto version`

use crate::context::{Context, Ended};
use crate::render::Version;

pub fn run(context: &mut Context) -> Ended {
    context.printer.show(&Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("SOTTO_COMMIT"),
    })?;
    Ok(())
}

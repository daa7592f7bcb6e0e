//! `sotto demo`
pub(crate) async fn run(_context: &mut crate::context::Context) -> crate::context::Ended { Ok(()) }

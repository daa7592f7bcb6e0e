//! `sotto up`
pub(crate) async fn run(_context: &mut crate::context::Context, _args: &crate::args::Up, _signals: &mut crate::signals::Signals) -> crate::context::Ended { Ok(()) }

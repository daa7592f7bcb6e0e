//! Every decision of the client, without I/O.

pub mod io;

//! The file server over real sockets and real files. Test names begin with the id of the rule in
//! `docs/behaviour/file-server.md` that they carry.

mod attacks;
mod deletion;
mod program;
mod sunset;
mod support;
mod transfer;

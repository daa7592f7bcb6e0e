//! What the relay promises (`docs/behaviour/relay.md`), over real sockets, files and processes.
//! The name of a test begins with the id of the rule that it carries.

mod crash;
mod deletion;
mod erasure;
mod files;
mod guard;
mod limits;
mod program;
mod protocol;
mod query;
mod recovery;
mod rules;
mod support;

//! What the relay promises (`docs/behaviour/relay.md`), over real sockets, files and processes.
//! The name of a test begins with the id of the rule that it carries.

mod protocol;
mod support;

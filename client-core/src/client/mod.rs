//! The front door: a [`Home`] is a folder; a [`Client`] is bound to one circle of it and has one
//! verb for each thing a person can do.
//!
//! `request` has what goes in, [`view`](crate::view) what comes out. `home` makes and opens,
//! `bound` drives the engine; `sending`, `reading`, `people`, `servers`, `circles` and `fetch`
//! are the verbs; `attach` prepares files, `file_name` and `save` put them on the disk, `check`
//! and `probe` look at servers from outside.

mod attach;
mod bound;
mod check;
mod circles;
mod fetch;
mod file_name;
mod home;
mod people;
mod probe;
mod reading;
mod request;
mod save;
mod sending;
mod servers;

pub use bound::Client;
pub use crypto::{Argon2Params, WordCount};
pub use file_name::safe_name;
pub use home::{FIRST_CIRCLE, Home};
pub use request::{
    FileContent, FileSource, FileTarget, InitOptions, NewCircle, Outcome, Protection, RngSource,
    SendRequest, Settings, Transfer, TransferObserver, UnlockWith, WaitLevel,
};

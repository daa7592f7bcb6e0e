//! How a command fails: the error, and what was done all the same.

use client_core::{Error, ErrorWord};
use serde::Serialize;

/// The end of a command that did not do all of it.
///
/// Where something was stored or partly done, its object is on stdout already, and the id and
/// status go with the error, so that a script never sends twice for want of an id.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// The message that it is about.
    pub id: Option<String>,
    /// How far that message came.
    pub status: Option<&'static str>,
}

/// `sotto.error/1`.
#[derive(Serialize)]
pub struct ErrorObject<'a> {
    schema: &'static str,
    error: &'static str,
    detail: &'a str,
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}

impl Failure {
    /// An error about a message that is stored.
    pub fn about(error: Error, id: &str, status: Option<&'static str>) -> Self {
        Self {
            error,
            id: Some(id.to_owned()),
            status,
        }
    }

    /// As a program reads it.
    pub fn object(&self) -> ErrorObject<'_> {
        ErrorObject {
            schema: "sotto.error/1",
            error: self.error.word.as_str(),
            detail: &self.error.detail,
            hint: self.error.hint.as_deref(),
            retry_after_s: self.error.retry_after_s,
            id: self.id.as_deref(),
            status: self.status,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            id: None,
            status: None,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Error::from(error).into()
    }
}

/// A request that makes no sense, found before anything was unlocked.
pub fn usage(detail: impl Into<String>) -> Error {
    Error::new(ErrorWord::Usage, detail)
}

/// Ctrl-C.
pub fn interrupted() -> Error {
    Error::new(ErrorWord::Interrupted, "interrupted")
}

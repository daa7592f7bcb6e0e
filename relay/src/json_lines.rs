//! JSON Lines as `import` reads them: one event on each line.

use std::io::{BufRead, Read as _, Result};

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Text(Vec<u8>),
    /// Longer than was asked for; it was skipped.
    TooLong,
}

/// The next line, none at the end. No more than `most` bytes of it, and its end, are ever held.
pub fn next(source: &mut dyn BufRead, most: usize) -> Result<Option<Line>> {
    // A line break may be two bytes.
    let most = most as u64 + 2;
    let mut line = Vec::new();
    if source.take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == most {
        source.skip_until(b'\n')?;
        return Ok(Some(Line::TooLong));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(Line::Text(line)))
}

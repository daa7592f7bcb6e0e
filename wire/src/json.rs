//! The check that runs before any JSON parser does.

use crate::error::DecodeError;
use crate::limits;

/// Refuses bytes that are larger than `limit`, not UTF-8, or nested deeper than
/// [`limits::NESTING`]; returns them as text.
///
/// The scan is linear and allocates nothing, so a parser never sees a bomb.
pub(crate) fn gate<'a>(
    bytes: &'a [u8],
    what: &'static str,
    limit: usize,
) -> Result<&'a str, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { what, limit });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)?;
    let mut depth = 0_usize;
    let mut rest = bytes;
    let mut in_string = false;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => in_string = !in_string,
            // The escaped byte says nothing about the structure.
            b'\\' if in_string => rest = rest.get(1..).unwrap_or_default(),
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limits::NESTING {
                    return Err(DecodeError::TooDeep);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if in_string {
            rest = skip_plain(rest);
        }
    }
    Ok(text)
}

/// Leaves out blocks of a string's bytes without quote or backslash. A block at a time is what a
/// compiler turns into vector instructions; most of an event is one long string.
fn skip_plain(bytes: &[u8]) -> &[u8] {
    const BLOCK: usize = 32;
    let is_plain = |block: &&[u8]| {
        let special = |found, byte: &u8| found | (*byte == b'"') | (*byte == b'\\');
        !block.iter().fold(false, special)
    };
    let blocks = bytes.chunks_exact(BLOCK).take_while(is_plain).count();
    bytes.get(blocks * BLOCK..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_strings_only() {
        let fine = format!("[\"{}\"]", "[".repeat(100));
        assert!(gate(fine.as_bytes(), "test", 1_000).is_ok());
        let escaped_quote = format!("[\"\\\"{}\"]", "[".repeat(100));
        assert!(gate(escaped_quote.as_bytes(), "test", 1_000).is_ok());
        let deepest = "[".repeat(limits::NESTING);
        assert!(gate(deepest.as_bytes(), "test", 1_000).is_ok());
        let bomb = "[".repeat(limits::NESTING + 1);
        assert_eq!(
            gate(bomb.as_bytes(), "test", 1_000),
            Err(DecodeError::TooDeep)
        );
    }

    #[test]
    fn long_strings_are_skipped_to_their_end_and_no_further() {
        for length in 0..100 {
            for inside in ["", "\\\"", "\\\\", "[[{"] {
                let text = "x".repeat(length);
                let fine = format!("[\"{text}{inside}{}{text}\"]", "[".repeat(20));
                assert!(gate(fine.as_bytes(), "test", 1_000).is_ok(), "{fine}");
                let bomb = format!("[\"{text}{inside}{text}\"{}", "[".repeat(limits::NESTING));
                let refused = gate(bomb.as_bytes(), "test", 1_000);
                assert_eq!(refused, Err(DecodeError::TooDeep), "{bomb}");
            }
        }
    }

    #[test]
    fn size_and_utf8_are_checked_first() {
        assert!(matches!(
            gate(b"12345", "test", 4),
            Err(DecodeError::TooLarge { limit: 4, .. })
        ));
        assert_eq!(gate(b"\"\xff\"", "test", 4), Err(DecodeError::Utf8));
    }
}

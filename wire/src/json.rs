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
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limits::NESTING {
                    return Err(DecodeError::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(text)
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
    fn size_and_utf8_are_checked_first() {
        assert!(matches!(
            gate(b"12345", "test", 4),
            Err(DecodeError::TooLarge { limit: 4, .. })
        ));
        assert_eq!(gate(b"\"\xff\"", "test", 4), Err(DecodeError::Utf8));
    }
}

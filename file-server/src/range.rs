//! The `Range` header (RFC 9110, section 14): one range of bytes, or none.

/// What a `Range` header asks of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// The bytes from `first` to `last`, both included.
    Part {
        /// The first byte's position.
        first: u64,
        /// The last byte's position; less than the blob's size and not less than `first`.
        last: u64,
    },
    /// Something that is answered with 416: several ranges, one outside the blob, or nonsense.
    Nothing,
}

/// Reads a `Range` header for a blob of `size` bytes.
///
/// A unit other than `bytes` is ignored, as RFC 9110 asks. Several ranges are refused: they cost
/// a server many times what they cost the client, and no client of encrypted blobs needs them.
pub fn wanted(header: &str, size: u64) -> Wanted {
    let Some((unit, ranges)) = header.split_once('=') else {
        return Wanted::Nothing;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else {
        return Wanted::Nothing;
    };
    let end = size.checked_sub(1);
    let part = match (position(first), position(last), end) {
        // `a-b`: b may lie beyond the end.
        (Some(first), Some(last), Some(end)) if first <= last && first <= end => {
            Some((first, last.min(end)))
        }
        // `a-`
        (Some(first), None, Some(end)) if last.is_empty() && first <= end => Some((first, end)),
        // `-n`: the last n bytes, or all of a smaller blob.
        (None, Some(count), Some(end)) if first.is_empty() && count > 0 => {
            Some((size.saturating_sub(count), end))
        }
        _ => None,
    };
    part.map_or(Wanted::Nothing, |(first, last)| Wanted::Part {
        first,
        last,
    })
}

/// Digits only: `u64::from_str` would also take a sign. Too large a number is no position.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(first: u64, last: u64) -> Wanted {
        Wanted::Part { first, last }
    }

    #[test]
    fn f_dl_3_ranges_overlap_and_overflow_by_the_table() {
        let max = u64::MAX;
        let table = [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=0-9", 10, part(0, 9)),
            ("bytes=9-9", 10, part(9, 9)),
            ("bytes=5-", 10, part(5, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-10", 10, part(0, 9)),
            ("bytes=-11", 10, part(0, 9)),
            ("Bytes= 0-4", 10, part(0, 4)),
            ("bytes=0-18446744073709551615", 10, part(0, 9)),
            ("bytes=-18446744073709551615", 10, part(0, 9)),
            ("bytes=10-10", 10, Wanted::Nothing),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=5-4", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=-", 10, Wanted::Nothing),
            ("bytes=", 10, Wanted::Nothing),
            ("bytes", 10, Wanted::Nothing),
            ("", 10, Wanted::Nothing),
            ("bytes=0-1,3-4", 10, Wanted::Nothing),
            ("bytes=0-,0-,0-", 10, Wanted::Nothing),
            ("bytes=+1-2", 10, Wanted::Nothing),
            ("bytes=--1", 10, Wanted::Nothing),
            ("bytes=1-2-3", 10, Wanted::Nothing),
            ("bytes=0x0-1", 10, Wanted::Nothing),
            ("bytes=18446744073709551616-", 10, Wanted::Nothing),
            ("bytes=0-18446744073709551616", 10, Wanted::Nothing),
            (
                "bytes=18446744073709551615-18446744073709551615",
                10,
                Wanted::Nothing,
            ),
            ("bytes=18446744073709551614-", max, part(max - 1, max - 1)),
            ("bytes=0-0", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("lines=1-2", 10, Wanted::Whole),
        ];
        for (header, size, expected) in table {
            assert_eq!(wanted(header, size), expected, "{header} of {size}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_inside_the_blob(header in "(bytes=)?[0-9,-]{0,24}", size: u64) {
            if let Wanted::Part { first, last } = wanted(&header, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}

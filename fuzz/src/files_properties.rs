//! Decoders of the file server.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sotto_files::Config;
use sotto_files::fuzzing;
use sotto_files::range::{Wanted, wanted};
use sotto_files::storage::record::{Claim, Record, Spent};
use wire::ids::{EventId, PublicKey};

use super::header_lines;

/// Eight bytes of size, then a `Range` header: a part always lies inside the blob.
pub fn range_header(data: &[u8]) {
    let Some((size, header)) = data.split_first_chunk::<8>() else {
        return;
    };
    let size = u64::from_le_bytes(*size);
    let Ok(header) = std::str::from_utf8(header) else {
        return;
    };
    if let Wanted::Part { first, last } = wanted(header, size) {
        assert!(first <= last && last < size);
    }
}

/// A path, then headers, one on each line: what a request asks for. A blob has one path; a part
/// lies inside; an end lies ahead and can be said back.
pub fn blob_request(data: &[u8]) {
    const SIZE: u64 = 1_000;
    const NOW: u64 = 1_700_000_000;
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(path) = std::str::from_utf8(lines.next().unwrap_or_default()) else {
        return;
    };
    let headers: HeaderMap =
        header_lines::read::<HeaderName, HeaderValue>(lines.take(20)).collect();
    let head = fuzzing::head(path, &headers, SIZE, NOW);
    if let Some(blob) = head.blob {
        assert!(path[1..].starts_with(&blob.to_hex()) && path.starts_with('/'));
    }
    if let Wanted::Part { first, last } = head.wanted {
        assert!(first <= last && last < SIZE);
    }
    assert!(headers.contains_key("range") || head.wanted == Wanted::Whole);
    assert!(headers.contains_key("content-length") || head.size.is_none());
    if let Some(Some(sunset)) = head.sunset {
        assert!(sunset > NOW);
        let said = fuzzing::sunset(sunset).expect("what was read can be said");
        let mut back = HeaderMap::new();
        back.insert("sunset", HeaderValue::from_str(&said).expect("a header"));
        assert_eq!(
            fuzzing::head("/", &back, SIZE, NOW).sunset,
            Some(Some(sunset))
        );
    }
}

/// The answer of a server that may be anybody's to `check`: a line with the status, lines of
/// headers, an empty line, the body. What people are told of it is short, and plain ASCII.
pub fn files_check(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(status) = StatusCode::from_bytes(lines.next().unwrap_or_default()) else {
        return;
    };
    let head = lines.by_ref().take_while(|line| !line.is_empty());
    let headers: HeaderMap = header_lines::read::<HeaderName, HeaderValue>(head.take(20)).collect();
    let body: Vec<&[u8]> = lines.collect();
    for told in fuzzing::told(status, headers, body.join(&b'\n').into()) {
        assert!(told.len() <= 250, "{told}");
        assert!(
            told.bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{told:?}"
        );
    }
}

/// The file beside a blob: read, or refused as damaged. What was read is written the same, and
/// goes on by its rules at any time, the eight first bytes say which.
pub fn blob_record(data: &[u8]) {
    let (now, json) = match data.split_first_chunk::<8>() {
        Some((now, json)) => (u64::from_le_bytes(*now), json),
        None => (0, data),
    };
    let Some(mut record) = Record::decode(json) else {
        return;
    };
    let written = record.encode().expect("a record");
    assert_eq!(Record::decode(&written).as_ref(), Some(&record));
    let _ = record.gone_at().and_then(fuzzing::sunset);
    record.expire(now);
    assert!(record.due_at().is_none_or(|due| due > now));
    let token = Spent {
        token: EventId::from_bytes([1; 32]),
        until: now,
    };
    let was_spent = record.is_spent(&token);
    assert_eq!(
        record.spend(token).is_ok(),
        record.is_spent(&token) && !was_spent
    );
    let owner = PublicKey::from_bytes([2; 32]);
    if record
        .claim(Claim {
            owner,
            sunset: None,
        })
        .is_ok()
    {
        assert!(record.is_owner(&owner) && record.gone_at().is_none());
        assert!(record.release(&owner).is_ok() && !record.is_owner(&owner));
    }
}

/// The text of a configuration: refused with a reason, or within every bound that the rest of the
/// server counts on.
pub fn file_server_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match Config::parse(text, "data") {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let limits = &config.limits;
    assert!(limits.blob_bytes <= wire::limits::FILE_BYTES);
    assert!(limits.uploads > 0 && limits.connections > 0 && limits.uploads_per_key > 0);
    assert!(limits.max_age_seconds != Some(0));
    assert!(!limits.header_timeout.is_zero() && !limits.idle_timeout.is_zero());
    for name in config.server_names(7448) {
        assert!(
            !name.is_empty()
                && !name.contains('/')
                && !name.bytes().any(|byte| byte.is_ascii_uppercase())
        );
    }
}

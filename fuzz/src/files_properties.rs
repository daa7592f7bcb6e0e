//! Decoders of the file server.

use sotto_files::range::{Wanted, wanted};

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

//! The name that a sender gave a file, on its way to the recipient's disk.

use std::path::{Component, Path};

/// Whatever a peer called it: one ordinary name of at most 200 bytes, which a second pass leaves
/// as it is.
pub fn file_name(data: &[u8]) {
    let name = client_core::client::safe_name(&String::from_utf8_lossy(data));
    assert!(!name.is_empty() && name.len() <= client_core::limits::FILE_NAME_BYTES);
    assert!(!name.starts_with(['.', '-']) && !name.ends_with(['.', ' ']));
    assert!(
        !name
            .chars()
            .any(|c| c.is_control() || "/\\:*?\"<>|".contains(c))
    );
    let mut parts = Path::new(&name).components();
    assert!(matches!(parts.next(), Some(Component::Normal(_))));
    assert!(parts.next().is_none());
    assert_eq!(client_core::client::safe_name(&name), name);
}

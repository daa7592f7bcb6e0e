//! The way of a stranger's text to a terminal.

use sotto_cli::printer::harmless::{harmless, harmless_json, harmless_lines, is_dangerous};

/// Whatever a peer wrote: nothing that a terminal obeys comes out, a second pass changes nothing,
/// and JSON keeps its value.
pub fn terminal_printer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let shown = harmless(&text);
    assert!(!shown.chars().any(is_dangerous));
    assert_eq!(harmless(&shown), shown);
    for line in harmless_lines(&text) {
        assert!(!line.chars().any(is_dangerous));
    }
    let Ok(json) = serde_json::to_string(&*text) else {
        return;
    };
    let shown = harmless_json(&json);
    assert!(!shown.chars().any(is_dangerous));
    assert_eq!(
        serde_json::from_str::<String>(&shown).ok().as_deref(),
        Some(&*text)
    );
}

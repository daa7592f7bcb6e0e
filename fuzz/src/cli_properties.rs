//! What is typed at a command line.

use sotto_cli::args::parse;

/// Every kind of value that an option takes: refused in words, or within its bounds, and what is
/// an address or a name reads as itself.
pub fn cli_values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let ten_years = std::time::Duration::from_secs(10 * 366 * 86_400);
    assert!(
        parse::duration(text).is_ok_and(|time| time <= ten_years) || parse::duration(text).is_err()
    );
    assert!(
        parse::lifetime(text).is_ok_and(|seconds| seconds > 0) || parse::lifetime(text).is_err()
    );
    assert!(
        parse::timeout(text).is_ok_and(|time| !time.is_zero()) || parse::timeout(text).is_err()
    );
    if let Ok(url) = parse::relay(text) {
        assert_eq!(parse::relay(url.as_str()).as_ref(), Ok(&url));
    }
    if let Ok(named) = parse::named_relay(text) {
        assert_eq!(parse::named_relay(&named.expose()).as_ref(), Ok(&named));
    }
    if let Ok(origin) = parse::file_server(text) {
        assert_eq!(parse::file_server(origin.as_str()).as_ref(), Ok(&origin));
    }
    if let Ok(person) = parse::person(text) {
        assert_eq!(parse::person(&person).as_ref(), Ok(&person));
        assert!(!person.contains("nsec1") || !person.starts_with("nsec1"));
        // A key is a key whatever stands before it, and an alias is no key.
        assert!(!parse::looks_like_key(&person) || client_core::Link::parse(&person).is_ok());
    }
    if let Ok(name) = parse::name(text) {
        assert_eq!(parse::name(&name).as_ref(), Ok(&name));
        assert!(!name.chars().any(sotto_cli::printer::harmless::is_dangerous));
    }
    if let Ok(id) = parse::message_id(text) {
        assert_eq!(parse::message_id(&id).as_ref(), Ok(&id));
        assert!((8..=64).contains(&id.len()));
    }
}

//! What strangers wrote, made safe to show: pure, and the only way from their text to a terminal.
//!
//! A terminal obeys control characters and escape sequences, bidirectional overrides make a line
//! read differently from what it says, and invisible characters hide or forge names. None of
//! them reaches the terminal: control characters are shown as their pictures (`␛`), everything
//! else invisible by its code point (`\u{202e}`). The result is fit for one column of one line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How many combining marks may sit on one character before the rest are shown by code point:
/// no script stacks more than a few, "zalgo" text buries the lines around it.
const MARKS: usize = 4;

/// `text` for one line: line ends and tabs are made visible as well.
///
/// The result holds no character that [`is_dangerous`], and harmless text comes back unchanged
/// (`harmless(harmless(x)) == harmless(x)`).
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    // As it stands in the result: what is shown by code point joins nothing.
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        let joins = is_joiner(c)
            && is_joinable(before)
            && rest.peek().is_some_and(|next| is_joinable(*next));
        if joins || !(is_dangerous(c) || is_joiner(c) || marks > MARKS) {
            out.push(c);
            before = c;
        } else {
            show(&mut out, c);
            before = ' ';
        }
    }
    Cow::Owned(out)
}

/// `text` of several lines: each line by [`harmless`], with `\r\n` as one line end. Tabs become
/// four spaces, since a column cannot be computed for them.
pub fn harmless_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split('\n').map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains('\t') {
            Cow::Owned(harmless(&line.replace('\t', "    ")).into_owned())
        } else {
            harmless(line)
        }
    })
}

/// `json`, already valid, with every dangerous character as its `\uXXXX` escape: the same value
/// for a program, and nothing for a terminal to obey.
///
/// `serde_json` escapes only what is below U+0020; outside strings, JSON is plain ASCII, so every
/// other character stands inside one and may be escaped.
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| is_dangerous(c) || is_joiner(c)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_dangerous(c) || is_joiner(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal could obey `c`, or a reader not see it: C0, DEL, C1, bidirectional
/// controls, line and paragraph separators, and what Unicode calls default-ignorable, save the
/// two joiners and the variation selectors that emoji and many scripts are written with.
pub fn is_dangerous(c: char) -> bool {
    matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0d}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// ZERO WIDTH NON-JOINER and JOINER: right between two letters of Persian or two halves of a
/// family, a way to forge a name anywhere else.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_joinable(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !is_dangerous(c) && !is_joiner(c)
}

fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{489}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

fn show(out: &mut String, c: char) {
    let code = u32::from(c);
    let picture = match code {
        0..=0x1f => char::from_u32(0x2400 + code),
        0x7f => Some('\u{2421}'),
        _ => None,
    };
    match picture {
        Some(picture) => out.push(picture),
        None => {
            let _ = write!(out, "\\u{{{code:x}}}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_and_overrides_are_shown_and_not_obeyed() {
        let table = [
            ("plain", "plain"),
            ("\u{1b}[2J\u{7}", "␛[2J␇"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("user\u{202e}gpj.exe", "user\\u{202e}gpj.exe"),
            ("bo\u{200b}b", "bo\\u{200b}b"),
            ("bo\u{200d}b", "bo\\u{200d}b"),
            ("a\nb\tc\r", "a␊b␉c␍"),
            ("\u{feff}x", "\\u{feff}x"),
        ];
        for (raw, shown) in table {
            assert_eq!(harmless(raw), shown);
        }
    }

    #[test]
    fn living_languages_and_emoji_stay_as_they_are() {
        for text in [
            "Grüße, Ωmega, עברית, العربية",
            "می\u{200c}خواهم",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}",
            "e\u{301}t\u{e9}",
        ] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn a_tower_of_marks_is_cut_down() {
        let tower = format!("a{}", "\u{301}".repeat(20));
        assert_eq!(harmless(&tower).matches('\u{301}').count(), MARKS);
    }

    #[test]
    fn lines_stay_lines() {
        let lines: Vec<_> = harmless_lines("one\r\n\ttwo\u{1b}").collect();
        assert_eq!(lines, ["one", "    two␛"]);
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_out(text in any::<String>()) {
            let shown = harmless(&text);
            prop_assert!(!shown.chars().any(is_dangerous));
            prop_assert_eq!(harmless(&shown), &*shown);
            for line in harmless_lines(&text) {
                prop_assert!(!line.chars().any(is_dangerous));
            }
        }

        #[test]
        fn any_mixture_of_traps_is_harmless(
            text in prop::collection::vec(prop::sample::select(vec![
                'a', 'ا', '👩', '\u{1b}', '\u{9b}', '\u{200c}', '\u{200d}', '\u{202e}', '\u{2066}',
                '\u{301}', '\u{fe0f}', '\u{e0041}', '\n', '\r', '\t', '\u{0}',
            ]), 0..40)
        ) {
            let text: String = text.into_iter().collect();
            let shown = harmless(&text);
            prop_assert!(!shown.chars().any(is_dangerous));
            prop_assert_eq!(harmless(&shown), &*shown);
        }

        #[test]
        fn json_keeps_its_value(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let shown = harmless_json(&json);
            prop_assert!(!shown.chars().any(is_dangerous));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}

//! The name of a received file: a stranger chose it, so nothing of it is trusted.

use wire::limits;

/// The longest extension that is kept when a name is cut, dot included.
const EXTENSION_BYTES: usize = 17;

/// A name that is safe in the current folder on any system: no path, at most
/// [`limits::FILE_NAME_BYTES`] bytes, no leading dot or dash, no control, bidirectional or
/// invisible characters, none of Windows' device names; `file` where nothing is left.
pub fn safe_name(untrusted: &str) -> String {
    let base = untrusted.rsplit(['/', '\\']).next().unwrap_or_default();
    let cleaned: String = base
        .chars()
        .filter(|c| !is_hidden(*c))
        .map(|c| if is_forbidden(c) { '_' } else { c })
        .collect();
    let cleaned = cleaned
        .trim_start_matches(|c: char| c == '.' || c == '-' || c.is_whitespace())
        .trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    let stem = cleaned.split('.').next().unwrap_or_default().trim_end();
    let named = match cleaned {
        "" => "file".to_owned(),
        name if is_device(stem) => format!("_{name}"),
        name => name.to_owned(),
    };
    fit(&named, "")
}

/// The same name with a number before its extension, for where it is taken.
pub(super) fn numbered(name: &str, number: u32) -> String {
    fit(name, &format!(" ({number})"))
}

/// Cuts the stem so that stem, mark and extension fit.
fn fit(name: &str, mark: &str) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 && name.len().saturating_sub(at) <= EXTENSION_BYTES => {
            name.split_at_checked(at).unwrap_or((name, ""))
        }
        _ => (name, ""),
    };
    let room = limits::FILE_NAME_BYTES.saturating_sub(mark.len().saturating_add(extension.len()));
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut cut = stem.get(..end).unwrap_or_default();
    if cut.len() < stem.len() {
        // What the cut left at the end would be dropped by some systems.
        cut = cut.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    }
    format!("{cut}{mark}{extension}")
}

/// Characters that a terminal or file manager acts on or does not show.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Characters that some file system gives a meaning.
fn is_forbidden(c: char) -> bool {
    matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

fn is_device(stem: &str) -> bool {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let upper = stem.to_uppercase();
    let is_numbered = ["COM", "LPT"].iter().any(|port| {
        upper.strip_prefix(port).is_some_and(|number| {
            let mut chars = number.chars();
            let digit = chars.next();
            digit.is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'))
                && chars.next().is_none()
        })
    });
    is_numbered || DEVICES.contains(&upper.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_stay_names() {
        let table = [
            ("photo.jpg", "photo.jpg"),
            ("../../x", "x"),
            ("/etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("C:\\Users\\a\\b.txt", "b.txt"),
            ("a:b.txt", "a_b.txt"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("...", "file"),
            ("/", "file"),
            ("dir/", "file"),
            (".bashrc", "bashrc"),
            ("-rf", "rf"),
            ("--", "file"),
            (". -x", "x"),
            ("a\u{1b}[2Jb.txt", "a[2Jb.txt"),
            ("a\nb\0c", "abc"),
            ("gpj.\u{202e}exe", "gpj.exe"),
            ("\u{2066}x\u{2069}", "x"),
            ("in\u{200b}visible", "invisible"),
            ("CON", "_CON"),
            ("con.txt", "_con.txt"),
            ("com1.tar.gz", "_com1.tar.gz"),
            ("COM¹", "_COM¹"),
            ("company.txt", "company.txt"),
            ("name. . ", "name"),
            ("Ünïcödé — 漢字.pdf", "Ünïcödé — 漢字.pdf"),
            ("a*b?c", "a_b_c"),
        ];
        for (from, to) in table {
            assert_eq!(safe_name(from), to, "{from:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_keep_their_extension() {
        assert_eq!(safe_name(&format!("a{}b", " .".repeat(150))), "a.b");
        assert_eq!(safe_name(&format!("a{}b", " ".repeat(300))), "a");
        let long = format!("{}.jpeg", "ä".repeat(300));
        let name = safe_name(&long);
        assert!(name.len() <= limits::FILE_NAME_BYTES && name.ends_with("ä.jpeg"));
        let second = numbered(&name, 12);
        assert!(second.len() <= limits::FILE_NAME_BYTES && second.ends_with("ä (12).jpeg"));
        assert_eq!(numbered("photo.jpg", 1), "photo (1).jpg");
        assert_eq!(numbered("README", 1), "README (1)");
        let dots = format!("a.{}", "x".repeat(400));
        assert_eq!(safe_name(&dots).len(), limits::FILE_NAME_BYTES);
        let spaces = format!("{}{}b", "a".repeat(190), " .".repeat(20));
        assert_eq!(safe_name(&spaces), format!("{}.b", "a".repeat(190)));
    }
}

//! PINs, passphrases and seed words on their way in: from a prompt, a file or a file descriptor,
//! never from arguments or the environment. Buffers are wiped.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use client_core::{Error, ErrorWord, Result, SecretText};
use zeroize::Zeroizing;

use crate::failure::usage;

/// No PIN, passphrase or list of words is longer.
const SECRET_BYTES: usize = 4_096;

/// The secret in a file; `-` is stdin. One line end at its end does not belong to it.
pub fn from_file(path: &Path, what: &str) -> Result<SecretText> {
    if path == Path::new("-") {
        return read(&mut io::stdin().lock(), what);
    }
    let mut file = File::open(path).map_err(|error| {
        let cause = Error::from(error);
        Error::new(
            cause.word,
            format!("{what} file {}: {}", path.display(), cause.detail),
        )
    })?;
    read(&mut file, what)
}

/// The secret behind an open file descriptor, by its name in `/dev/fd`, so that no descriptor
/// is closed that belongs to somebody else.
pub fn from_fd(number: u16, what: &str) -> Result<SecretText> {
    let mut file = File::open(format!("/dev/fd/{number}"))
        .map_err(|error| usage(format!("file descriptor {number}: {error}")))?;
    read(&mut file, what)
}

/// Asks on the terminal, without echo. The tasks of the runtime go on meanwhile, so that Ctrl-C
/// is heard.
pub async fn prompt(question: &str, no_input: bool) -> Result<SecretText> {
    if no_input {
        return Err(needed("an answer is needed and --no-input was given"));
    }
    let question = question.to_owned();
    let answer = tokio::task::spawn_blocking(move || rpassword::prompt_password(question))
        .await
        .map_err(|error| Error::new(ErrorWord::Internal, error.to_string()))?;
    match answer {
        Ok(text) => Ok(SecretText::new(text)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(crate::failure::interrupted())
        }
        Err(_) => Err(needed(
            "an answer is needed and there is no terminal to ask on",
        )),
    }
}

/// Asks for a new secret twice.
pub async fn prompt_new(what: &str, no_input: bool) -> Result<SecretText> {
    let first = prompt(&format!("New {what}: "), no_input).await?;
    let again = prompt("The same again: ", no_input).await?;
    if first.expose_secret() == again.expose_secret() {
        Ok(first)
    } else {
        Err(usage("the two were not the same; nothing was changed"))
    }
}

/// Asks whether to go on with something that cannot be undone.
pub async fn confirm(question: &str, yes: bool, no_input: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if no_input || !io::stdin().is_terminal() {
        return Err(needed("this cannot be undone and nobody is there to ask")
            .hint("give --yes to do it without being asked"));
    }
    let answer = tokio::task::spawn_blocking({
        let question = format!("{question} [y/N] ");
        move || -> io::Result<String> {
            let mut err = anstream::stderr();
            io::Write::write_all(&mut err, question.as_bytes())?;
            io::Write::flush(&mut err)?;
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            Ok(line)
        }
    })
    .await
    .map_err(|error| Error::new(ErrorWord::Internal, error.to_string()))??;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Error::new(ErrorWord::Interrupted, "not confirmed; nothing was changed").exit(1))
    }
}

fn needed(detail: &str) -> Error {
    Error::new(ErrorWord::Locked, detail)
}

fn read(from: &mut impl Read, what: &str) -> Result<SecretText> {
    // One allocation that never grows leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + 1));
    let limit = u64::try_from(SECRET_BYTES + 1).unwrap_or(u64::MAX);
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| usage(format!("{what}: {error}")))?;
    if bytes.len() > SECRET_BYTES {
        return Err(usage(format!("{what}: longer than {SECRET_BYTES} bytes")));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(usage(format!("{what}: empty")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| usage(format!("{what}: not UTF-8")))?;
    Ok(SecretText::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> Option<String> {
        read(&mut &*bytes, "PIN")
            .ok()
            .map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn one_line_end_does_not_belong_to_a_secret() {
        assert_eq!(secret(b"1234\n").as_deref(), Some("1234"));
        assert_eq!(secret(b"1234\r\n").as_deref(), Some("1234"));
        assert_eq!(secret(b"1234\n\n").as_deref(), Some("1234\n"));
        assert_eq!(secret(b"1234\r").as_deref(), Some("1234\r"));
        assert_eq!(secret(b" 1234 ").as_deref(), Some(" 1234 "));
    }

    #[test]
    fn no_secret_is_no_secret() {
        assert_eq!(secret(b""), None);
        assert_eq!(secret(b"\n"), None);
        assert_eq!(secret(b"\xff\xfe"), None);
        assert_eq!(secret(&[b'x'; SECRET_BYTES + 1]), None);
    }
}

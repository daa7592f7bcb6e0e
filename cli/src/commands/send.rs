//! `sotto send`

use std::io::Read;
use std::path::Path;

use client_core::client::{FileContent, FileSource, SendRequest, WaitLevel};
use client_core::{Error, ErrorWord, Result, limits};

use crate::args::{Send, Wait};
use crate::context::{Context, Ended};
use crate::failure::usage;
use crate::internal;

pub async fn run(context: &mut Context, args: Send) -> Ended {
    let request = request(args).await?;
    let mut client = context.open().await?;
    let outcome = client.send(request).await?;
    context.end(client, outcome).await
}

/// The checked request: what can be refused without the account is refused here.
async fn request(args: Send) -> Result<SendRequest> {
    let reads_stdin = args.file.iter().filter(|path| is_stdin(path)).count()
        + usize::from(args.text.as_deref() == Some("-"));
    if reads_stdin > 1 {
        return Err(usage("stdin can be sent once: give `-` once"));
    }
    if args.name.is_some() && args.file.len() + usize::from(args.as_file) != 1 {
        return Err(usage("--name names one file: send one at a time"));
    }
    let mut files = Vec::new();
    let text = match args.text.as_deref() {
        Some("-") if args.as_file => {
            files.push(FileSource {
                content: FileContent::Reader(Box::new(std::io::stdin())),
                name: args.name.clone(),
            });
            None
        }
        Some("-") => Some(text_from_stdin().await?),
        Some(text) => Some(text.to_owned()),
        None => None,
    };
    if let Some(text) = &text
        && !args.as_file
    {
        check_text(text)?;
    }
    for path in &args.file {
        let content = if is_stdin(path) {
            FileContent::Reader(Box::new(std::io::stdin()))
        } else {
            check_file(path)?;
            FileContent::Path(path.clone())
        };
        files.push(FileSource {
            content,
            name: args.name.clone(),
        });
    }
    Ok(SendRequest {
        as_file: args.as_file && text.is_some(),
        text,
        files,
        name: args.name,
        keep_metadata: args.keep_metadata,
        reply_to: args.reply_to,
        expire_s: args.expire,
        as_myself: args.as_myself,
        wait: level(args.wait),
        wait_for: None,
        idempotency_key: args.idempotency_key,
        to: args.to,
    })
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn level(wait: Wait) -> WaitLevel {
    match wait {
        Wait::Queued => WaitLevel::Queued,
        Wait::Accepted => WaitLevel::Accepted,
        Wait::Stored => WaitLevel::Stored,
        Wait::Delivered => WaitLevel::Delivered,
        Wait::Read => WaitLevel::Read,
    }
}

/// Reads no more than shows that it is too much.
async fn text_from_stdin() -> Result<String> {
    let bytes = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        let limit = u64::try_from(limits::TEXT_BYTES).unwrap_or(u64::MAX);
        std::io::stdin()
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    })
    .await
    .map_err(internal)??;
    if bytes.len() > limits::TEXT_BYTES {
        return Err(too_large());
    }
    String::from_utf8(bytes)
        .map_err(|_| usage("stdin is no text: it is not UTF-8").hint("send it with --as-file"))
}

/// A text's own bytes, and its bytes as JSON, which are never fewer than what the rumor holds.
fn check_text(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(usage("the text is empty"));
    }
    let as_json = serde_json::to_string(text).map_err(internal)?;
    if text.len() > limits::TEXT_BYTES || as_json.len() > limits::RUMOR_BYTES {
        return Err(too_large());
    }
    Ok(())
}

fn too_large() -> Error {
    Error::new(
        ErrorWord::TooLarge,
        format!(
            "a text has at most {} bytes, and {} as JSON",
            limits::TEXT_BYTES,
            limits::RUMOR_BYTES
        ),
    )
    .exit(2)
    .hint("send it with --as-file")
}

fn check_file(path: &Path) -> Result<()> {
    let place = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| {
        let cause = Error::from(error);
        Error::new(cause.word, format!("{place}: {}", cause.detail))
    })?;
    if metadata.is_dir() {
        return Err(usage(format!(
            "{place} is a folder; send its files one by one"
        )));
    }
    if metadata.len() > limits::FILE_BYTES {
        return Err(Error::new(
            ErrorWord::TooLarge,
            format!("{place} is too large to send"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_measured_as_it_travels() {
        assert!(check_text("hello").is_ok());
        assert!(check_text(&"a".repeat(limits::TEXT_BYTES)).is_ok());
        let long = check_text(&"a".repeat(limits::TEXT_BYTES + 1)).unwrap_err();
        assert_eq!((long.exit, long.word), (2, ErrorWord::TooLarge));
        // Each control character takes six bytes in JSON.
        assert!(check_text(&"\u{1}".repeat(10_000)).is_err());
        assert!(check_text("").is_err());
    }
}

//! `sotto invite`

use std::io::IsTerminal;

use client_core::client::Outcome;
use qrcode::{EcLevel, QrCode};

use crate::context::{Context, Ended};
use crate::printer::Mode;
use crate::render::InviteLink;

pub async fn run(context: &mut Context) -> Ended {
    let mut client = context.open().await?;
    if client.relays()?.is_empty() {
        context
            .printer
            .warn("no inbox relay yet: who has this link cannot write to you");
    }
    let link = client.invite()?.to_string();
    if context.printer.mode() == Mode::Text && std::io::stdout().is_terminal() {
        context.pass_on_warnings(&mut client);
        context.printer.raw(code(&link).as_bytes())?;
    }
    context
        .end(client, Outcome::done(InviteLink { link }))
        .await
}

/// A QR code of half blocks: two modules in one character, so that they are square, black on
/// white by the terminal's colours so that any background will do, with the four modules of quiet
/// zone that scanners need (ISO/IEC 18004).
fn code(link: &str) -> String {
    // Capitals are no use here: bech32 is lower case, and bytes are bytes.
    let Ok(code) = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L) else {
        // Longer than any code holds (2,953 bytes); the link itself follows.
        return String::new();
    };
    let width = code.width();
    let modules = code.to_colors();
    let is_dark = |x: Option<usize>, y: Option<usize>| match (x, y) {
        (Some(x), Some(y)) if x < width && y < width => modules
            .get(y.saturating_mul(width).saturating_add(x))
            .is_some_and(|color| *color == qrcode::Color::Dark),
        _ => false,
    };
    let mut out = String::from("\n");
    for row in (0..width + 2 * QUIET).step_by(2) {
        out.push_str("\x1b[30;107m");
        for column in 0..width + 2 * QUIET {
            let x = column.checked_sub(QUIET);
            let above = is_dark(x, row.checked_sub(QUIET));
            let below = is_dark(x, (row + 1).checked_sub(QUIET));
            out.push(match (above, below) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        out.push_str("\x1b[0m\n");
    }
    out.push('\n');
    out
}

/// Modules around the code that stay light.
const QUIET: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_and_has_a_quiet_zone() {
        let code = code("nostr:nprofile1qqs");
        let rows: Vec<Vec<char>> = code
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                let line = line.strip_prefix("\x1b[30;107m").unwrap();
                line.strip_suffix("\x1b[0m").unwrap().chars().collect()
            })
            .collect();
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width));
        assert_eq!(rows.len(), width.div_ceil(2));
        assert!(rows[..QUIET / 2].iter().flatten().all(|c| *c == ' '));
        assert!(
            rows.iter()
                .all(|row| row[..QUIET].iter().all(|c| *c == ' '))
        );
        // The finder pattern in the corner.
        assert!(rows[QUIET / 2][QUIET..QUIET + 7].iter().all(|c| *c != ' '));
    }
}

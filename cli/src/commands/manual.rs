//! `sotto completions` and `sotto man`: both come from the one definition in `args`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;

use clap::{Command, CommandFactory};
use client_core::{Error, ErrorWord, Result};

use crate::args::{Cli, Completions, Man};
use crate::context::{Context, Ended};
use crate::internal;

pub fn completions(context: &mut Context, args: &Completions) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sotto", &mut script);
    context.printer.raw(&script)?;
    Ok(())
}

pub fn man(context: &mut Context, args: &Man) -> Ended {
    let mut root = Cli::command();
    root.build();
    if let Some(dir) = &args.dir {
        write_all(&root, dir)?;
        return Ok(());
    }
    let page = page(&find(&root, &args.command)?)?;
    if !(std::io::stdout().is_terminal() && read_aloud(&page)) {
        context.printer.raw(&page)?;
    }
    Ok(())
}

/// Every page, into files as `man` expects them: `sotto-message-list.1`.
fn write_all(root: &Command, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut waiting = vec![root.clone()];
    while let Some(command) = waiting.pop() {
        let name = command.get_display_name().unwrap_or("sotto").to_owned();
        std::fs::write(dir.join(format!("{name}.1")), page(&command)?)?;
        waiting.extend(commands_of(&command).cloned());
    }
    Ok(())
}

fn commands_of(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

fn find(root: &Command, path: &[String]) -> Result<Command> {
    let mut at = root;
    for name in path {
        at = commands_of(at)
            .find(|sub| sub.get_name() == name)
            .ok_or_else(|| {
                let what = path.join(" ");
                Error::new(ErrorWord::Usage, format!("there is no command `{what}`"))
            })?;
    }
    Ok(at.clone())
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .source(format!("sotto {}", crate::VERSION))
        .manual("Sotto")
        .render(&mut page)
        .map_err(internal)?;
    Ok(page)
}

/// Shows a page by the system's reader; false where there is none.
fn read_aloud(page: &[u8]) -> bool {
    use std::io::Write;
    let reader = std::process::Command::new("man")
        .args(["-l", "-"])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut reader) = reader else {
        return false;
    };
    let is_written = reader
        .stdin
        .take()
        .is_some_and(|mut stdin| stdin.write_all(page).is_ok());
    reader.wait().is_ok_and(|status| status.success()) && is_written
}

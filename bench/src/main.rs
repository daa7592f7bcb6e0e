//! Benchmarks whose figures are ratios measured in one run: `cargo xtask bench`.
//!
//! Absolute rates on a shared machine mean little, so every figure stands beside what the same
//! machine did in the same rounds with the parts it is made of (or with another program).

mod envelope;
mod file_cipher;
mod process;
mod relay_ingest;
mod rounds;
mod send_process;
mod table;

use table::Table;

fn main() -> anyhow::Result<()> {
    let mut table = Table::default();
    envelope::run(&mut table)?;
    file_cipher::run(&mut table)?;
    relay_ingest::run(&mut table)?;
    send_process::run(&mut table)?;
    table.print();
    Ok(())
}

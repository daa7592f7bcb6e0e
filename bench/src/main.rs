//! Benchmarks whose figures are ratios measured in one run: `cargo xtask bench [PART]...`.
//!
//! Absolute rates on a shared machine mean little, so every figure stands beside what the same
//! machine did in the same rounds with the parts it is made of (or with another program).

mod envelope;
mod file_cipher;
mod hostile;
mod process;
mod relay;
mod relay_ingest;
mod rounds;
mod send_process;
mod table;

use table::Table;

/// A bench that can be asked for by name.
struct Part {
    name: &'static str,
    /// Whether it runs where no part is named; long ones do not.
    always: bool,
    run: fn(&mut Table) -> anyhow::Result<()>,
}

const PARTS: [Part; 8] = [
    Part {
        name: "envelope",
        always: true,
        run: envelope::run,
    },
    Part {
        name: "file-cipher",
        always: true,
        run: file_cipher::run,
    },
    Part {
        name: "relay-ingest",
        always: true,
        run: relay_ingest::run,
    },
    Part {
        name: "send",
        always: true,
        run: send_process::run,
    },
    Part {
        name: "relay",
        always: false,
        run: relay::run,
    },
    Part {
        name: "relay-backlog",
        always: false,
        run: relay::backlog::run,
    },
    Part {
        name: "relay-growth",
        always: false,
        run: relay::growth::run,
    },
    Part {
        name: "hostile",
        always: false,
        run: hostile::run,
    },
];

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, attack, url] = wanted.as_slice()
        && verb == hostile::attackers::VERB
    {
        return hostile::attackers::run(attack, url);
    }
    for name in &wanted {
        anyhow::ensure!(
            PARTS.iter().any(|part| part.name == name),
            "no such part: {name}; there are: {}",
            PARTS.map(|part| part.name).join(", ")
        );
    }
    let mut table = Table::default();
    for part in &PARTS {
        let is_wanted = match wanted.as_slice() {
            [] => part.always,
            names => names.iter().any(|name| name == part.name),
        };
        if is_wanted {
            (part.run)(&mut table)?;
        }
    }
    table.print();
    Ok(())
}

//! The messenger's command line. The story is told in `lib.rs`.

fn main() -> std::process::ExitCode {
    sotto_cli::run(std::env::args_os())
}

//! Runs every input in some folders through one target: `replay TARGET FOLDER...`. It has no
//! fuzzer in it, so it can be built with any instrumentation.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the name of a target");
    let target = sotto_fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    let (_, property) = target.expect("a target of that name");
    for folder in arguments {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            property(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        }
    }
}

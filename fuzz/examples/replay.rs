//! Runs every input in some folders through one decoder: `replay DECODER FOLDER...`. It has no
//! fuzzer in it, so it can be built with any instrumentation.

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the name of a decoder");
    let mut decoders = sotto_fuzz::TARGETS.iter().flat_map(|(_, all)| *all);
    let (_, property) = decoders
        .find(|(known, _)| *known == name)
        .expect("a decoder of that name");
    for folder in arguments {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            property(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        }
    }
}

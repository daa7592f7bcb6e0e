//! Runs the inputs of a target through its property in an ordinary test, which includes this file.

/// The inputs in the target's folder of `corpus/`. A folder with fewer than three was forgotten.
pub fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap();
    let inputs: Vec<_> = entries
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() >= 3, "{folder} holds only {}", inputs.len());
    inputs
}

/// Gives each of them to the property.
pub fn replay(target: &str, property: fn(&[u8])) {
    inputs(target).iter().for_each(|input| property(input));
}

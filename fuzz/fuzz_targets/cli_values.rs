#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::cli_properties::cli_values(data));

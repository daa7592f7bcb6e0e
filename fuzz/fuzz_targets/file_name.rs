#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::file_name_properties::file_name(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::files_properties::file_server_config(data));

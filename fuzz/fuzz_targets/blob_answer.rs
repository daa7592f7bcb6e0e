#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sotto_fuzz::client_properties::blob_answer(data));

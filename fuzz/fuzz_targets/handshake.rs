//! See `hqq_tests::fuzz::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hqq_tests::fuzz::run("handshake", data));

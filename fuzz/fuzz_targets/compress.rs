//! See `hqq_tests::fuzz::compress`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hqq_tests::fuzz::run("compress", data));

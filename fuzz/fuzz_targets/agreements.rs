//! See `hqq_tests::fuzz::agreements`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hqq_tests::fuzz::run("agreements", data));

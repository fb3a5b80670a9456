//! See `hqq_tests::fuzz::attach`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hqq_tests::fuzz::run("attach", data));

//! The hqq command.
fn main() {}

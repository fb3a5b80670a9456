//! Names of the directions and sides of a link, as `hqq stat` and `hqq check` print them.

/// The directions, by number.
pub const DIRECTIONS: [&str; 2] = ["primary to secondary", "secondary to primary"];

/// The sides, by number.
pub const SIDES: [&str; 2] = ["primary", "secondary"];

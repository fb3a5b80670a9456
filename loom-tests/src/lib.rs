//! The models live in `tests/`.

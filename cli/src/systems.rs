//! The systems that `hqq bench` measures.

use hqq_bench::System;

/// All systems that `--system` accepts: the bare programs, links of HQQ, and a pipe.
pub fn systems() -> Vec<Box<dyn System>> {
    hqq_bench::raw().into_iter().chain(hqq_bench::own()).collect()
}

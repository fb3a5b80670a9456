//! Features alone, in pairs and all together, in random schedules against a model. `cargo xtask schedules` runs more.

use hqq_tests::schedule::{STEPS, run_all};
use hqq_tests::test;

#[test]
fn features_go_together() {
    let _test = test!(untraced);
    let all = run_all(1, 6, STEPS).unwrap_or_else(|difference| panic!("{difference}"));
    assert!(all.received > all.steps / 8 && all.held_up > all.steps / 50, "{all:?}: the schedules are dull");
}

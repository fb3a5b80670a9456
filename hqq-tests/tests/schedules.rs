//! Features alone, in pairs and all together, in random schedules against a model.

use hqq_tests::schedule::{self, Feature, Figures};
use hqq_tests::test;

/// So many schedules of each set, unless the environment says otherwise: `cargo xtask schedules`.
const COUNT: u64 = 6;
const STEPS: u64 = 1500;

#[test]
fn features_go_together() {
    let _test = test!(untraced);
    let number = |name, usual| std::env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let (first, count) = (number("HQQ_SCHEDULES_FROM", 1), number("HQQ_SCHEDULES", COUNT));
    let mut all = Figures::default();
    for features in Feature::sets() {
        for seed in first..first + count {
            match schedule::run(&features, seed, STEPS) {
                Ok(Figures { steps, received, held_up }) => {
                    all.steps += steps;
                    all.received += received;
                    all.held_up += held_up;
                }
                Err(difference) => panic!("{features:?}, HQQ_SCHEDULES_FROM={seed}: {difference}"),
            }
        }
    }
    println!("{} calls, {} messages, {} held up", all.steps, all.received, all.held_up);
    assert!(all.received > all.steps / 8 && all.held_up > all.steps / 50, "{all:?}: the schedules are dull");
}

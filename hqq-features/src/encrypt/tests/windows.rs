//! The window by itself, where jumps are wider than sessions can make them.

use std::collections::BTreeSet;

use super::super::window::Window;
use super::*;

#[test]
fn a_window_agrees_with_a_simple_model() {
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let width = match seed % 4 {
            0 => 1 + random.u64(..3),
            1 => 62 + random.u64(..5),
            2 => 126 + random.u64(..5),
            _ => 1 + random.u64(..3000),
        };
        let (mut window, mut accepted, mut next) = (Window::new(width as u32), BTreeSet::new(), 0_u64);
        for _ in 0..2000 {
            let counter = match random.u64(..20) {
                0 => next + random.u64(..3 * width),
                1 => next + random.u64(..1 << 40),
                2..=8 => next,
                9 => random.u64(..next + 1),
                _ => next.saturating_sub(random.u64(..width + 70)),
            };
            let oldest = next.saturating_sub(width);
            let expected = if counter < oldest {
                Err(EncryptError::TooOld { counter, oldest })
            } else if accepted.contains(&counter) {
                Err(EncryptError::Replayed { counter })
            } else {
                Ok(())
            };
            assert_eq!(window.oldest(), oldest);
            assert_eq!(window.check(counter), expected, "seed {seed}, width {width}");
            // Some are looked at and turn out to be forged.
            if random.u64(..4) > 0 {
                assert_eq!(window.accept(counter), expected);
                if expected.is_ok() {
                    accepted.insert(counter);
                    next = next.max(counter + 1);
                }
            }
        }
    }
}

#[test]
fn the_edges_are_where_they_should_be() {
    let mut window = Window::new(2048);
    for counter in [2047, 0] {
        assert_eq!(window.accept(counter), Ok(()));
    }
    assert_eq!(window.accept(2048), Ok(()));
    assert_eq!(window.check(0), Err(EncryptError::TooOld { counter: 0, oldest: 1 }));
    assert_eq!(window.check(1), Ok(()));
    assert_eq!(window.accept(COUNTERS - 1), Ok(()));
    assert_eq!(window.check(COUNTERS - 1), Err(EncryptError::Replayed { counter: COUNTERS - 1 }));
    assert_eq!(window.check(COUNTERS - 2048), Ok(()));
}

#[test]
fn without_a_window_only_the_next_is_taken() {
    let mut window = Window::new(0);
    assert_eq!(window.check(1), Err(EncryptError::Skipped { counter: 1, next: 0 }));
    for counter in 0..200 {
        assert_eq!(window.oldest(), counter);
        assert_eq!(window.accept(counter), Ok(()));
        assert_eq!(window.accept(counter), Err(EncryptError::Replayed { counter }));
    }
    assert_eq!(window.check(0), Err(EncryptError::Replayed { counter: 0 }));
}

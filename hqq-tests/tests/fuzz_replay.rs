//! Runs the fuzz targets without a fuzzer: on the committed corpus, and on some thousand random inputs with fixed seeds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hqq_tests::{fuzz, test};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn replay(target: &str, inputs: usize, longest: usize) {
    // Reading a corpus takes descriptors, which another target may be counting.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _test = test!(untraced);
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus(target)).expect("a corpus").flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} files in the corpus of {target}", files.len());
    for file in files {
        println!("{}", file.display());
        fuzz::run(target, &fs::read(&file).expect("a file of the corpus"));
    }
    for seed in 0..inputs as u64 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input = vec![0; random.usize(..=longest)];
        random.fill(&mut input);
        // Few kinds of byte make more of the shorter ways.
        if seed % 2 == 1 {
            input.iter_mut().for_each(|byte| *byte &= 0x1F);
        }
        fuzz::run(target, &input);
    }
}

#[test]
fn agreements() {
    replay("agreements", 1500, 300);
}

#[test]
fn attach() {
    replay("attach", 1500, 300);
}

#[test]
fn compress() {
    replay("compress", 1500, 300);
}

#[test]
fn connections() {
    replay("connections", 300, 300);
}

#[test]
fn geometry() {
    replay("geometry", 5000, 200);
}

#[test]
fn handshake() {
    replay("handshake", 500, 200);
}

#[test]
fn packets() {
    replay("packets", 500, 400);
}

#[test]
fn every_target_is_replayed_and_has_a_program() {
    let own = include_str!("fuzz_replay.rs");
    for (name, _) in fuzz::TARGETS {
        assert!(own.contains(&format!("replay({name:?}")), "{name} is not replayed");
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets").join(format!("{name}.rs"));
        assert!(program.is_file(), "{} is missing", program.display());
    }
}

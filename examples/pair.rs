//! The pair of programs that the README shows, as two processes.
//!
//! `cargo run --example pair` runs both. For two terminals: `cargo run --example pair camera` in one and
//! `cargo run --example pair viewer` in the other, in either order.

use std::process::{Command, ExitCode};
use std::{env, io};

/// The program `pair/camera.rs`.
mod camera {
    include!("pair/camera.rs");

    pub fn run() -> hqq::Result<()> {
        main()
    }
}

/// The program `pair/viewer.rs`.
mod viewer {
    include!("pair/viewer.rs");

    pub fn run() -> hqq::Result<()> {
        main()
    }
}

fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some("camera") => camera::run().map_err(io::Error::from),
        Some("viewer") => viewer::run().map_err(io::Error::from),
        None => both(),
        Some(other) => Err(io::Error::other(format!("\"{other}\" is neither camera nor viewer"))),
    };
    if let Err(error) = outcome {
        eprintln!("pair: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs the camera in a second process and the viewer in this one.
fn both() -> io::Result<()> {
    let mut camera = Command::new(env::current_exe()?).arg("camera").spawn()?;
    let seen = viewer::run();
    if seen.is_err() {
        // The camera may still wait for a viewer.
        let _ = camera.kill();
    }
    let status = camera.wait()?;
    seen?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the camera ended with {status}"))) }
}

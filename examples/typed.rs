//! Values instead of bytes: a struct that is written in shared memory and read there, without a copy.

mod common;

use bytemuck::{Pod, Zeroable};
use common::{Outcome, PATIENCE};
use hqq::{Error, Listener, StandardLink};

/// One scan. Plain old data: every bit pattern is a value, and there is no padding.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Scan {
    number: u64,
    pose: [f64; 3],
    ranges: [f32; 512],
}

/// Sends scans, then a message that is not a scan.
fn listen(name: &str) -> Outcome {
    let link = Listener::bind(name)?.accept_timeout(PATIENCE)?;
    for number in 0..5 {
        let mut scan = link.loan_as::<Scan>()?; // zeroed; a &mut Scan in shared memory
        scan.number = number;
        scan.pose = [number as f64, 0.5, 0.25];
        scan.ranges.fill(number as f32 * 2.0);
        scan.send()?;
    }
    // A slice of values has no header: the message's length gives the number of values.
    link.send(bytemuck::cast_slice(&[1.5_f32, 2.5, 3.5]))?;
    assert_eq!(&*link.recv()?, b"understood");
    Ok(())
}

/// Reads the scans in place.
fn connect(name: &str) -> Outcome {
    let link = StandardLink::connect_timeout(name, PATIENCE)?;
    for number in 0..5 {
        let message = link.recv()?;
        let scan: &Scan = message.cast()?;
        assert_eq!(scan.number, number);
        let mean = scan.ranges.iter().sum::<f32>() / scan.ranges.len() as f32;
        println!("scan {} at {:?}: {mean} m on average", scan.number, scan.pose);
    }
    let message = link.recv()?;
    // A message of another length is not a Scan; the error has both lengths.
    match message.cast::<Scan>() {
        Err(error @ Error::TypeSize { .. }) => println!("as a scan: {error}"),
        _ => return Err("12 bytes were taken for a scan".into()),
    }
    let values: &[f32] = bytemuck::try_cast_slice(&message).map_err(|e| e.to_string())?;
    println!("as values: {values:?}");
    link.send(b"understood")?;
    Ok(())
}

fn main() -> Outcome {
    common::two_processes(listen, connect)
}

// The viewer: reads each frame where the camera wrote it.
use hqq::StandardLink;
use std::time::Duration;

fn main() -> hqq::Result<()> {
    let link = StandardLink::connect_timeout("camera", Duration::from_secs(20))?;
    for _ in 0..3 {
        let frame = link.recv()?; // dereferences to &[u8]
        println!("viewer: a frame of {} bytes, all of them {}", frame.len(), frame[0]);
    } // dropped, a frame's memory is the camera's again
    link.send(b"thanks for the frames")
}

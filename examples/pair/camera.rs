// The camera: lends itself shared memory, fills it, and sends it on.
use hqq::Listener;

fn main() -> hqq::Result<()> {
    let link = Listener::bind("camera")?.accept()?;
    for number in 1..=3 {
        let mut frame = link.loan(640 * 480)?; // memory that both processes see
        frame.fill(number);
        frame.send()?; // the frame stays where it is: one cache line tells the viewer
    }
    println!("camera: the viewer says {:?}", String::from_utf8_lossy(&link.recv()?));
    Ok(())
}

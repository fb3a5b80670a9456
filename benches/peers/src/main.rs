//! Round trips through HQQ and iceoryx2, between the same two processes in turns.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [SECONDS]` measures each line of its table for that
//! long (0.5 unless given), exactly as the example `compare` does with sockets and pipes.

#[path = "../../../examples/compare/measure.rs"]
mod measure;

use std::process::Command;
use std::time::Duration;
use std::{env, process};

use hqq::{Offer, Options, StandardLink};
use hqq_sys::cpu;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use measure::{Case, Hqq, Outcome, Way, follow, head, lead, read, sessions};

const SIZES: [usize; 3] = [48, 4096, 65536];

/// Publish-subscribe both ways, with an event beside each to wake who sleeps.
struct Iceoryx2 {
    output: Publisher<ipc::Service, [u8], ()>,
    input: Subscriber<ipc::Service, [u8], ()>,
    bell: Notifier<ipc::Service>,
    sleeper: Listener<ipc::Service>,
    /// Kept, since the ports live on it.
    _node: Node<ipc::Service>,
}

impl Iceoryx2 {
    fn new(leader: u32, leads: bool) -> Outcome<Self> {
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let name = |what: &str, there: bool| {
            let direction = if there { "there" } else { "back" };
            format!("hqq-peers/{leader}/{what}/{direction}").as_str().try_into()
        };
        let data = |there| -> Outcome<_> {
            let builder = node.service_builder(&name("data", there)?);
            Ok(builder.publish_subscribe::<[u8]>().open_or_create()?)
        };
        let event = |there| -> Outcome<_> {
            Ok(node.service_builder(&name("event", there)?).event().open_or_create()?)
        };
        let longest = SIZES.into_iter().fold(0, usize::max);
        Ok(Self {
            output: data(leads)?.publisher_builder().initial_max_slice_len(longest).create()?,
            input: data(!leads)?.subscriber_builder().create()?,
            bell: event(leads)?.notifier_builder().create()?,
            sleeper: event(!leads)?.listener_builder().create()?,
            _node: node,
        })
    }

    fn send(&self, case: Case, size: usize, fill: u8) -> Outcome {
        self.output.loan_slice_uninit(size)?.write_from_fn(|_| fill).send()?;
        if case != Case::Polling {
            self.bell.notify()?;
        }
        Ok(())
    }

    fn recv(&mut self, case: Case) -> Outcome<Sample<ipc::Service, [u8], ()>> {
        loop {
            if let Some(sample) = self.input.receive()? {
                return Ok(sample);
            }
            if case == Case::Polling {
                std::hint::spin_loop();
            } else {
                self.sleeper.blocking_wait(|_| {})?;
            }
        }
    }
}

impl Way for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn ping(&mut self, case: Case, size: usize, fill: u8) -> Outcome<u64> {
        self.send(case, size, fill)?;
        Ok(read(self.recv(case)?.payload()))
    }

    fn pong(&mut self, case: Case, size: usize) -> Outcome {
        let sample = self.recv(case)?;
        std::hint::black_box(read(sample.payload()));
        let fill = sample.payload()[0];
        drop(sample);
        self.send(case, size, fill)
    }
}

/// The second process.
fn echo(leader: u32, processor: Option<usize>) -> Outcome {
    if let Some(processor) = processor {
        cpu::pin(processor)?;
    }
    let link = StandardLink::inherited()?;
    let mut peer = Iceoryx2::new(leader, false)?;
    // What is published before the subscriber exists is lost.
    link.send(b"ready")?;
    follow(&link, &mut [&mut Hqq { link: &link }, &mut peer])
}

/// Starts the second process and measures.
fn session(cases: &[Case], processor: Option<usize>, time: Duration) -> Outcome {
    let mut peer = Iceoryx2::new(process::id(), true)?;
    let offer = Offer::new(Options::new())?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["echo", &process::id().to_string()]).args(processor.map(|number| number.to_string()));
    offer.pass_to(&mut command)?;
    let mut child = command.spawn()?;
    let link = offer.accept(Duration::from_secs(20))?;
    assert_eq!(&*link.recv()?, b"ready");
    lead(&link, &mut [&mut Hqq { link: &link }, &mut peer], cases, &SIZES, time)?;
    drop(link);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the second process: {status}").into()) }
}

fn compare(seconds: f64) -> Outcome {
    let time = Duration::from_secs_f64(seconds);
    head(&["HQQ", "iceoryx2"]);
    sessions(|cases, processor| session(cases, processor, time))
}

fn main() -> Outcome {
    set_log_level(LogLevel::Error);
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", leader] => echo(leader.parse()?, None),
        ["echo", leader, processor] => echo(leader.parse()?, Some(processor.parse()?)),
        [seconds] => compare(seconds.parse()?),
        [] => compare(0.5),
        _ => Err("usage: hqq-peers [SECONDS]".into()),
    }
}

//! The rows: one message sent and received, both ends in one thread, with nothing else in flight.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use hqq::advanced::AdvancedOptions;
use hqq::agreement::Capabilities;
use hqq::shm::endpoint::Payload;
use hqq::shm::layout::Geometry;
use hqq::shm::packet::{Packet, op};
use hqq::shm::ring::{Consumer, Producer};
use hqq::shm::words::{Holder, Lap, Slot};
use hqq::{AdvancedLink, Clock, Listener, Options, RingMode, StandardLink, UntrustedLink, WaitMode};
use hqq_tests::single_step::mark;

use crate::memory::{with_regions, with_words};

/// Slots of each ring and buffers of each pool: as many as messages are counted, so that a count holds one lap.
pub const LAP: u32 = 64;
const BUFFER: u64 = 4096;
const BATCH: usize = 16;
/// What goes through the pool.
const POOL: usize = 64;
const SOON: Duration = Duration::from_secs(5);

/// How a row is exercised.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    /// For ever, with a mark ahead of each send, behind it, and behind the receive.
    Marked,
    /// As often as this, without marks.
    Plain(u64),
}

impl Drive {
    #[inline(always)]
    fn go(self, mut send: impl FnMut(), mut receive: impl FnMut()) {
        match self {
            Self::Marked => loop {
                mark();
                send();
                mark();
                receive();
                mark();
            },
            Self::Plain(times) => {
                for _ in 0..times {
                    send();
                    receive();
                }
            }
        }
    }
}

/// A row of the table.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Messages of one operation.
    pub messages: u64,
    /// Sets up what it needs, and drives it.
    pub run: fn(Drive) -> hqq::Result<()>,
}

const fn row(name: &'static str, run: fn(Drive) -> hqq::Result<()>) -> Row {
    Row { name, messages: 1, run }
}

/// Counted ahead of all others, with figures that are known: see [`known`].
pub const KNOWN: Row = row("known", known);

/// The rows, in the table's order.
pub const ROWS: &[Row] = &[
    row("ring alone, mpmc", |drive| ring(drive, false)),
    row("ring alone, spsc", |drive| ring(drive, true)),
    row("core, mpmc, spin: slot 8 B", |drive| core_slot(drive, RingMode::Mpmc, 8)),
    row("core, mpmc, spin: slot 48 B", |drive| core_slot(drive, RingMode::Mpmc, 48)),
    row("core, mpmc, spin: pool 64 B", |drive| core_pool(drive, RingMode::Mpmc)),
    row("core, spsc, spin: slot 8 B", |drive| core_slot(drive, RingMode::Spsc, 8)),
    row("core, spsc, spin: slot 48 B", |drive| core_slot(drive, RingMode::Spsc, 48)),
    row("core, spsc, spin: pool 64 B", |drive| core_pool(drive, RingMode::Spsc)),
    row("link, mpmc, adaptive: slot 8 B", |drive| link_copied(drive, adaptive(), 8)),
    row("link, mpmc, adaptive: slot 48 B", |drive| link_copied(drive, adaptive(), 48)),
    row("link, mpmc, adaptive: pool 64 B, lent", |drive| link_lent(drive, adaptive())),
    row("link, mpmc, adaptive: pool 64 B, copied", |drive| link_copied(drive, adaptive(), POOL)),
    row("link, mpmc, adaptive: slot 8 B, in place", |drive| link_in_place(drive, adaptive(), 8)),
    row("link, mpmc, adaptive: pool 64 B, in place", |drive| link_in_place(drive, adaptive(), POOL)),
    row("link, mpmc, adaptive: pool 64 B, typed", |drive| link_typed(drive, adaptive())),
    row("link, mpmc, adaptive: nothing to receive", |drive| nothing(drive, adaptive())),
    Row {
        name: "link, mpmc, adaptive: slot 8 B, batch of 16",
        messages: BATCH as u64,
        run: |drive| link_batch(drive, adaptive()),
    },
    Row {
        name: "link, mpmc, adaptive: slot 8 B, batch of 16, in place",
        messages: BATCH as u64,
        run: |drive| link_each(drive, adaptive()),
    },
    row("link, mpmc, spin: slot 8 B", |drive| link_copied(drive, spin(), 8)),
    row("link, mpmc, spin: slot 48 B", |drive| link_copied(drive, spin(), 48)),
    row("link, mpmc, spin: pool 64 B, lent", |drive| link_lent(drive, spin())),
    row("link, mpmc, spin: pool 64 B, copied", |drive| link_copied(drive, spin(), POOL)),
    row("halves, spsc, spin: slot 8 B", |drive| halves_copied(drive, single(), 8)),
    row("halves, spsc, spin: slot 48 B", |drive| halves_copied(drive, single(), 48)),
    row("halves, spsc, spin: pool 64 B, lent", |drive| halves_lent(drive, single())),
    row("halves, spsc, spin: pool 64 B, copied", |drive| halves_copied(drive, single(), POOL)),
    row("halves, spsc, spin: slot 8 B, in place", |drive| halves_in_place(drive, single(), 8)),
    row("halves, spsc, spin: pool 64 B, in place", |drive| halves_in_place(drive, single(), POOL)),
    row("connection, mpmc, adaptive: 64 B, copied in and out", |drive| connection(drive, adaptive())),
    row("untrusted, mpmc, adaptive: slot 8 B", |drive| untrusted(drive, 8)),
    row("untrusted, mpmc, adaptive: pool 64 B, copied in and out", |drive| untrusted(drive, POOL)),
    row("advanced, nothing agreed, mpmc, adaptive: slot 8 B", |drive| advanced_copied(drive, 8)),
    row("advanced, nothing agreed, mpmc, adaptive: pool 64 B, lent", advanced_lent),
    row("advanced, nothing agreed, mpmc, adaptive: pool 64 B, in place", |drive| {
        advanced_in_place(drive, POOL)
    }),
    row("advanced, statistics, mpmc, adaptive: slot 8 B", |drive| measured_copied(drive, 8)),
    row("advanced, statistics, mpmc, adaptive: pool 64 B, lent", measured_lent),
    row("protected, mpmc, adaptive: slot 8 B", |drive| link_copied(drive, adaptive().protected(true), 8)),
    row("protected, mpmc, adaptive: pool 64 B, lent", |drive| link_lent(drive, adaptive().protected(true))),
];

fn adaptive() -> Options {
    Options::new().slots(LAP).buffers(LAP).buffer_size(BUFFER)
}

fn spin() -> Options {
    adaptive().wait_mode(WaitMode::Spin)
}

fn single() -> Options {
    spin().ring_mode(RingMode::Spsc)
}

/// A message whose length the compiler does not know.
fn message(len: usize) -> Vec<u8> {
    vec![7; black_box(len)]
}

const ROOM: &str = "there is room";
const SENT: &str = "it was sent";

/// One of each thing that is counted: a send changes one shared line, a receive looks at that and at another.
fn known(drive: Drive) -> hqq::Result<()> {
    with_words(|words| {
        drive.go(
            || {
                words[0].fetch_add(1, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                drop(black_box(Box::new(1_u64)));
                black_box(rustix::process::getppid());
                black_box(Instant::now());
            },
            || {
                black_box(words[0].load(Ordering::Relaxed));
                black_box(words[8].load(Ordering::Relaxed));
            },
        );
    })
}

fn geometry() -> hqq::Result<Geometry> {
    Geometry::new(LAP, LAP, BUFFER)
}

/// A packet of seven operands through a ring, without pool, checks and figures.
fn ring(drive: Drive, single: bool) -> hqq::Result<()> {
    let slots: Vec<Slot> = (0..LAP).map(|_| Slot::new(Lap::new(0))).collect();
    let [tail, head, floor] = [0; 3].map(AtomicU64::new);
    let producer = Producer::new(&slots, &tail, Holder::new(0, 1), single);
    let consumer = Consumer::new(&slots, &head, &floor, Holder::new(1, 1), single);
    drive.go(
        || {
            let packet = Packet::new(op::INLINE_COPY, [black_box(7)]);
            producer.publish(producer.claim().expect(ROOM), &packet);
        },
        || {
            let (ticket, packet) = consumer.take_at_head(Packet::is_plain).expect(SENT);
            consumer.release(ticket);
            black_box(packet.operands[0]);
        },
    );
    Ok(())
}

fn core_slot(drive: Drive, ring: RingMode, len: usize) -> hqq::Result<()> {
    let message = message(len);
    with_regions(geometry()?, ring, |near, far| {
        drive.go(
            || near.send_bytes(&message, |_| {}).expect(ROOM),
            || {
                let mut message = None;
                far.receive_plain(&mut message, |_| {}).expect(SENT);
                if let Some(Payload::Slot(inline)) = &message {
                    black_box(inline.bytes());
                }
            },
        );
    })
}

fn core_pool(drive: Drive, ring: RingMode) -> hqq::Result<()> {
    with_regions(geometry()?, ring, |near, far| {
        drive.go(
            || {
                let mut loan = near.loan(black_box(POOL)).expect(ROOM);
                loan.bytes_mut()[..8].copy_from_slice(&black_box(7_u64).to_ne_bytes());
                assert!(near.send(loan, |_| {}).is_ok(), "{ROOM}");
            },
            || {
                let mut message = None;
                far.receive_plain(&mut message, |_| {}).expect(SENT);
                if let Some(Payload::Pool(buffer)) = &message {
                    black_box(buffer.bytes()[0]);
                }
                far.give_message(message.expect(SENT));
            },
        );
    })
}

/// A copy is sent, and read where it lies.
macro_rules! copied {
    ($drive:expr, $near:expr, $far:expr, $len:expr) => {{
        let message = message($len);
        $drive.go(
            || $near.send(&message).expect(ROOM),
            || {
                let message = $far.try_recv().expect(SENT);
                black_box(message[0]);
            },
        );
        Ok(())
    }};
}

/// One word of a lent message is written, and read where it lies.
macro_rules! lent {
    ($drive:expr, $near:expr, $far:expr) => {{
        $drive.go(
            || {
                let mut loan = $near.loan(black_box(POOL)).expect(ROOM);
                loan[..8].copy_from_slice(&black_box(7_u64).to_ne_bytes());
                loan.send().expect(ROOM);
            },
            || {
                let message = $far.try_recv().expect(SENT);
                black_box(message[0]);
            },
        );
        Ok(())
    }};
}

fn link_copied(drive: Drive, options: Options, len: usize) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    copied!(drive, near, far, len)
}

fn link_lent(drive: Drive, options: Options) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    lent!(drive, near, far)
}

/// One word is written where the message lies, and read where it lies; nobody holds it meanwhile.
macro_rules! in_place {
    ($drive:expr, $near:expr, $far:expr, $len:expr) => {{
        $drive.go(
            || {
                let fill = |bytes: &mut [u8]| bytes[..8].copy_from_slice(&black_box(7_u64).to_ne_bytes());
                $near.send_with(black_box($len), fill).expect(ROOM);
            },
            || _ = black_box($far.recv_with(|bytes| bytes[0]).expect(SENT)),
        );
        Ok(())
    }};
}

fn link_in_place(drive: Drive, options: Options, len: usize) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    in_place!(drive, near, far, len)
}

/// Two ends that have agreed on something which changes no message.
fn agreed(options: Options) -> hqq::Result<(AdvancedLink, AdvancedLink)> {
    agreed_on(options, AdvancedOptions::new().capability(Capabilities::LOW_LATENCY))
}

/// Two ends that measure. Their clock stands, so that there is one sample, and the clock is looked at now and then.
fn measured() -> hqq::Result<(AdvancedLink, AdvancedLink)> {
    agreed_on(adaptive().clock(&Clock::new()), AdvancedOptions::new().statistics())
}

fn agreed_on(options: Options, wanted: AdvancedOptions) -> hqq::Result<(AdvancedLink, AdvancedLink)> {
    let (near, far) = StandardLink::pair_with(options)?;
    thread::scope(|scope| {
        let far = scope.spawn(|| AdvancedLink::wait_for_negotiation(far, &wanted, SOON));
        let near = AdvancedLink::negotiate(near, &wanted, SOON)?;
        Ok((near, far.join().expect("it does not panic")?))
    })
}

fn advanced_copied(drive: Drive, len: usize) -> hqq::Result<()> {
    let (near, far) = agreed(adaptive())?;
    copied!(drive, near, far, len)
}

fn measured_copied(drive: Drive, len: usize) -> hqq::Result<()> {
    let (near, far) = measured()?;
    copied!(drive, near, far, len)
}

fn measured_lent(drive: Drive) -> hqq::Result<()> {
    let (near, far) = measured()?;
    lent!(drive, near, far)
}

fn advanced_lent(drive: Drive) -> hqq::Result<()> {
    let (near, far) = agreed(adaptive())?;
    lent!(drive, near, far)
}

fn advanced_in_place(drive: Drive, len: usize) -> hqq::Result<()> {
    let (near, far) = agreed(adaptive())?;
    in_place!(drive, near, far, len)
}

fn halves_in_place(drive: Drive, options: Options, len: usize) -> hqq::Result<()> {
    let (primary, secondary) = StandardLink::pair_with(options)?;
    let ((near, _quiet), (_silent, far)) = (primary.split()?, secondary.split()?);
    in_place!(drive, near, far, len)
}

fn halves_copied(drive: Drive, options: Options, len: usize) -> hqq::Result<()> {
    let (primary, secondary) = StandardLink::pair_with(options)?;
    let ((near, _quiet), (_silent, far)) = (primary.split()?, secondary.split()?);
    copied!(drive, near, far, len)
}

fn halves_lent(drive: Drive, options: Options) -> hqq::Result<()> {
    let (primary, secondary) = StandardLink::pair_with(options)?;
    let ((near, _quiet), (_silent, far)) = (primary.split()?, secondary.split()?);
    lent!(drive, near, far)
}

fn link_typed(drive: Drive, options: Options) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    drive.go(
        || {
            let mut loan = near.loan_as::<[u64; 8]>().expect(ROOM);
            loan[0] = black_box(7);
            loan.send().expect(ROOM);
        },
        || {
            let message = far.try_recv().expect(SENT);
            black_box(message.cast::<[u64; 8]>().expect(SENT)[0]);
        },
    );
    Ok(())
}

/// A look at an empty ring.
fn nothing(drive: Drive, options: Options) -> hqq::Result<()> {
    let (_near, far) = StandardLink::pair_with(options)?;
    drive.go(|| (), || assert!(matches!(black_box(far.try_recv()), Err(hqq::Error::RingEmpty))));
    Ok(())
}

fn link_batch(drive: Drive, options: Options) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    let message = message(8);
    let batch = [&message[..]; BATCH];
    let mut received = Vec::with_capacity(BATCH);
    drive.go(
        || assert_eq!(near.send_batch(black_box(&batch)).expect(ROOM), BATCH),
        || {
            assert_eq!(far.recv_batch(&mut received, BATCH).expect(SENT), BATCH);
            received.drain(..).for_each(|message| {
                black_box(message[0]);
            });
        },
    );
    Ok(())
}

fn link_each(drive: Drive, options: Options) -> hqq::Result<()> {
    let (near, far) = StandardLink::pair_with(options)?;
    let message = message(8);
    let batch = [&message[..]; BATCH];
    drive.go(
        || assert_eq!(near.send_batch(&batch).expect(ROOM), BATCH),
        || assert_eq!(far.recv_each(BATCH, |bytes| _ = black_box(bytes[0])).expect(SENT), BATCH),
    );
    Ok(())
}

fn connection(drive: Drive, options: Options) -> hqq::Result<()> {
    let (primary, secondary) = StandardLink::pair_with(options)?;
    let (near, far) = thread::scope(|scope| {
        let far = scope.spawn(|| secondary.accept_connection_timeout(SOON));
        let near = primary.open_connection_timeout(SOON)?;
        Ok::<_, hqq::Error>((near, far.join().expect("accepting does not panic")?))
    })?;
    let (message, mut into) = (message(POOL), message(POOL));
    drive.go(|| near.send(&message).expect(ROOM), || assert_eq!(far.recv_into(&mut into).expect(SENT), POOL));
    Ok(())
}

fn untrusted(drive: Drive, len: usize) -> hqq::Result<()> {
    // Ahead of the handshake: what it leaves of the heap depends on when each of its messages came.
    let (message, mut into) = (message(len), message(len));
    let name = format!("costs-{}", std::process::id());
    let listener = Listener::bind_with(&name, adaptive())?;
    let (near, far) = thread::scope(|scope| {
        let near = scope.spawn(|| UntrustedLink::connect_timeout(&name, SOON));
        let far = listener.accept_untrusted_timeout(SOON)?;
        Ok::<_, hqq::Error>((near.join().expect("connecting does not panic")?, far))
    })?;
    drop(listener);
    drive.go(
        || near.send(&message).expect(ROOM),
        || {
            let message = far.try_recv().expect(SENT);
            assert_eq!(message.copy_to(&mut into), len);
        },
    );
    Ok(())
}

//! Arbitrary numbers as a geometry: an accepted one is laid out as the specification says, and an accepted packet names
//! buffers that exist.

use hqq::Options;
use hqq::shm::layout::{Geometry, Layout, MAX_BUFFERS, MAX_SLOTS, required_bytes, required_scratch};
use hqq::shm::packet::{Bounds, Operation, Packet, Run, op};

use crate::fuzz::bytes::Bytes;

/// The target.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let [slots, buffers, size, page] = [(); 4].map(|()| bytes.number());
    let options = Options::new().max_region(bytes.number()).max_message(bytes.number());
    let of_options = options.slots(slots as u32).buffers(buffers as u32).buffer_size(size).geometry();
    let geometry = Geometry::new(slots as u32, buffers as u32, size);
    let Ok(geometry) = geometry else {
        assert!(of_options.is_err(), "no such geometry, but options have it");
        return;
    };
    let (slots, buffers) = (geometry.slots(), geometry.buffers());
    assert!(slots.is_power_of_two() && (2..=MAX_SLOTS).contains(&slots));
    assert!(buffers.is_power_of_two() && (2..=MAX_BUFFERS).contains(&buffers));
    assert!(size % 8 == 0 && (8..=1 << 40).contains(&size) && geometry.buffer_size() == size);
    let stride = geometry.stride();
    assert!(stride % 64 == 0 && stride >= size && stride - size < 64);
    runs(&geometry, bytes.number());
    if let Ok(layout) = Layout::new(geometry, page) {
        sections(&layout);
        assert_eq!(required_bytes(&geometry, page).ok(), Some(layout.len));
    }
    assert!(required_scratch(&geometry) >= 2 * buffers as usize);
    let bounds = Bounds { geometry, max_message: bytes.number() };
    while !bytes.is_over() {
        let op = match bytes.byte() {
            0..=99 => op::STANDARD_LINK_COPY,
            100..=199 => op::CONN_COPY,
            other => other,
        };
        let packet = Packet { op, operands: [(); 7].map(|()| bytes.number()) };
        check(&packet, &bounds);
    }
}

/// Runs and lengths belong together.
fn runs(geometry: &Geometry, len: u64) {
    let count = geometry.run_for(len);
    assert!(count >= 1);
    if count <= u64::from(geometry.buffers()) {
        assert!(geometry.run_bytes(count as u32) >= len, "{len} bytes do not fit {count} buffers");
        assert!(count == 1 || geometry.run_bytes(count as u32 - 1) < len, "{count} buffers for {len} bytes");
    } else {
        assert!(geometry.run_bytes(geometry.buffers()) < len, "{len} bytes would fit the pool");
    }
}

/// The parts of a region lie one behind the other, each where it may begin.
fn sections(layout: &Layout) {
    let (slots, buffers) = (u128::from(layout.geometry.slots()), u128::from(layout.geometry.buffers()));
    let page = u128::from(layout.page);
    let mut end = page;
    assert!(page >= 4096, "the superblock has a page");
    for direction in &layout.directions {
        assert!(direction.ring % layout.page == 0 && direction.buffers % layout.page == 0);
        for (start, len) in [
            (direction.ring, 64 * slots),
            (direction.pool, 8 * buffers),
            (direction.lease, 8),
            (direction.sent, 8 * slots),
            (direction.received, 8 * slots),
            (direction.buffers, u128::from(layout.geometry.stride()) * buffers),
        ] {
            assert!(start % 8 == 0 && u128::from(start) >= end, "{layout:?}: {start} before {end}");
            end = u128::from(start) + len;
        }
        assert_eq!(direction.lease % 64, 0, "a line of its own");
        assert!(u128::from(layout.payload_len()) >= u128::from(layout.geometry.stride()) * buffers);
    }
    assert!(u128::from(layout.len) >= end && layout.len <= 1 << 46 && layout.len % layout.page == 0);
}

/// What may be acted upon names buffers that exist, and no more bytes than they have.
fn check(packet: &Packet, bounds: &Bounds) {
    let fits = |run: Run, len: u64| {
        assert!(run.count >= 1 && run.indices().end <= bounds.geometry.buffers() as usize, "{packet:?}");
        assert!(len <= bounds.geometry.run_bytes(run.count), "{packet:?}: {len} bytes in {run:?}");
    };
    match Operation::check(packet, bounds) {
        Ok(Operation::Copy { run: Some(run), len, .. }) => {
            assert!(len > 0 && len <= bounds.max_message);
            fits(run, len);
        }
        Ok(Operation::Copy { run: None, len, .. }) => assert_eq!(len, 0),
        Ok(Operation::ConnCopy(copy)) => {
            let end = copy.transfer_offset.checked_add(copy.transfer_size);
            assert!(end.is_some_and(|end| end <= copy.copy_size) && copy.copy_size <= bounds.max_message);
            assert_eq!(copy.run.is_none(), copy.transfer_size == 0);
            copy.run.into_iter().for_each(|run| fits(run, copy.transfer_size));
        }
        Ok(Operation::Inline { len, .. }) => assert!(len <= 48 && u64::from(len) <= bounds.max_message),
        Ok(_) => {}
        Err(fault) => {
            assert_eq!(fault.op, packet.op);
            fault.run.into_iter().for_each(|run| fits(run, 0));
        }
    }
}

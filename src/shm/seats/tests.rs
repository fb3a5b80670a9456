use super::*;
use crate::shm::words::SEATS;

fn vacant(generation: u8) -> Seat {
    Seat {
        word: AtomicU64::new(SeatWord::vacant(generation).word()),
        pid: AtomicU64::new(0),
        reserved: Default::default(),
    }
}

fn table() -> [Seat; SEATS] {
    std::array::from_fn(|_| vacant(1))
}

fn join(seats: Seats<'_>, role: Role) -> Holder {
    seats.join(role, |_| Some(false)).unwrap().unwrap()
}

#[test]
fn the_first_vacant_seat_is_taken_until_there_is_none() {
    let table = table();
    let seats = Seats::new(&table);
    for seat in 0..SEATS {
        assert_eq!(join(seats, Role::Secondary), Holder::new(seat, 1));
    }
    assert_eq!(seats.join(Role::Primary, |_| Some(false)).unwrap(), None);
    assert!(seats.leave(Holder::new(5, 1)).unwrap());
    assert_eq!(join(seats, Role::Primary), Holder::new(5, 2));
    assert_eq!(table[5].word.load(Ordering::Relaxed), 0x202);
}

#[test]
fn a_seat_is_passed_by_or_marked_as_locked() {
    let table = table();
    let seats = Seats::new(&table);
    let own = seats.join(Role::Primary, |seat| (seat > 1).then_some(seat == 2)).unwrap().unwrap();
    assert_eq!(own, Holder::new(2, 1));
    assert!(SeatWord::from_word(table[2].word.load(Ordering::Relaxed)).is_locked());
    assert_eq!(seats.join(Role::Primary, |_| None).unwrap(), None);
}

#[test]
fn generations_count_to_31_and_begin_again() {
    let table = [vacant(30)];
    let seats = Seats::new(&table);
    for generation in [30, 31, 1, 2] {
        let own = join(seats, Role::Secondary);
        assert_eq!(own, Holder::new(0, generation));
        assert!(seats.leave(own).unwrap());
        assert!(seats.leave(own).unwrap(), "has left already");
    }
}

#[test]
fn a_seat_has_no_successor_while_anybody_recovers_it() {
    let table = table();
    let seats = Seats::new(&table);
    let [ours, other, dead] = [(); 3].map(|()| join(seats, Role::Primary));
    assert!(seats.enter(dead, ours).unwrap() && seats.enter(dead, other).unwrap());
    assert!(!seats.vacate(dead).unwrap(), "two recover");
    assert!(!seats.leave(dead).unwrap(), "taken for dead");
    seats.finish(dead, ours);
    assert!(!seats.vacate(dead).unwrap(), "one still does");
    seats.finish(dead, other);
    assert!(seats.vacate(dead).unwrap() && seats.vacate(dead).unwrap());
    assert!(!seats.enter(dead, ours).unwrap(), "nothing is left to recover");
    let next = join(seats, Role::Primary);
    assert_eq!(next, Holder::new(2, 2));
    assert!(!seats.enter(dead, ours).unwrap(), "and not the successor's");
    assert!(seats.vacate(dead).unwrap() && seats.enter(next, ours).unwrap(), "who still sits there");
}

#[test]
fn a_recoverer_that_dies_is_struck_off() {
    let table = table();
    let seats = Seats::new(&table);
    let [ours, other, dead] = [(); 3].map(|()| join(seats, Role::Primary));
    assert!(seats.enter(dead, other).unwrap());
    assert!(seats.enter(other, ours).unwrap());
    seats.strike(other);
    seats.finish(other, ours);
    assert!(seats.vacate(dead).unwrap() && seats.vacate(other).unwrap());
}

#[test]
fn words_that_no_operation_leaves_are_refused() {
    for found in [0, u64::MAX, 0x101, 0x32, 0x2031, 0x142 | 1 << 30] {
        let table = table();
        let seats = Seats::new(&table);
        let holder = Holder::new(0, 1);
        table[0].word.store(found, Ordering::Relaxed);
        let wrong = Impossible { what: "a seat", found };
        assert_eq!(seats.join(Role::Primary, |_| Some(true)), Err(wrong));
        assert_eq!(seats.leave(holder), Err(wrong));
        assert_eq!(seats.enter(holder, Holder::new(1, 1)), Err(wrong));
    }
}

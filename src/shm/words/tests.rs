use super::*;

const ME: Holder = Holder::new(3, 17);

#[test]
fn stamps_decode_to_what_was_packed() {
    for lap in [0, 1, Lap::MASK - 1, Lap::MASK] {
        let lap = Lap::new(lap);
        assert_eq!(Stamp::free(lap).state(), Some(SlotState::Free));
        assert_eq!(Stamp::claimed(lap, ME).state(), Some(SlotState::Claimed(ME)));
        assert_eq!(Stamp::published(lap, 0xFF).state(), Some(SlotState::Published));
        assert_eq!(Stamp::taken(lap, ME, 0xFF).state(), Some(SlotState::Taken(ME)));
        for stamp in [Stamp::free(lap), Stamp::claimed(lap, ME), Stamp::taken(lap, ME, 4)] {
            assert_eq!(stamp.lap(), lap);
            assert_ne!(stamp.word(), 0);
        }
    }
    assert_eq!(Stamp::taken(Lap::new(9), ME, 0xAB).op(), 0xAB);
}

#[test]
fn no_transition_produces_these() {
    assert_eq!(Stamp::from_word(0).state(), None);
    assert_eq!(Stamp::from_word(u64::MAX).state(), None);
    assert_eq!(Stamp::from_word(Stamp::free(Lap::new(5)).word() | 1 << 20).state(), None);
    assert_eq!(Stamp::from_word(Stamp::free(Lap::new(5)).word() | 7).state(), None);
    assert_eq!(Stamp::from_word(2 << 8).state(), None, "claimed by nobody");
    assert_eq!(BufferWord::from_word(0).state(), None);
    assert_eq!(BufferWord::from_word(2).state(), None, "owned by nobody");
    assert_eq!(BufferWord::from_word(BufferWord::held(ME).word() | 1 << 40).state(), None);
    assert_eq!(LeaseWord::from_word(0).holder(), None);
    assert!(!SeatWord::from_word(0).is_valid());
    assert!(!SeatWord::vacant(1).with_recoverer(2).is_valid());
    let joined = SeatWord::joined(ME, Role::Primary, true).word();
    for bit in [2, 7, 13, 15, 24, 63] {
        assert!(!SeatWord::from_word(joined | 1 << bit).is_valid(), "{bit}");
    }
    assert!(!SleepersWord::from_word(0).is_valid());
}

#[test]
fn laps_compare_across_the_wrap() {
    let last = Lap::new(Lap::MASK);
    assert_eq!(last.next(), Lap::new(0));
    assert_eq!(last.next().ahead_of(last), 1);
    assert_eq!(last.ahead_of(last.next()), -1);
    assert_eq!(Lap::new(7).ahead_of(Lap::new(3)), 4);
}

#[test]
fn buffers_seats_and_leases_round_trip() {
    assert_eq!(BufferWord::owned(ME).state(), Some(BufferState::Owned(ME)));
    assert_eq!(BufferWord::held(ME).state(), Some(BufferState::Held(ME)));
    assert_eq!(BufferWord::spare(ME).state(), Some(BufferState::Spare(ME)));
    assert_eq!(BufferWord::FREE.state(), Some(BufferState::Free));
    assert_eq!(LeaseWord::leased(ME).holder(), Some(Some(ME)));
    assert_eq!(LeaseWord::VACANT.holder(), Some(None));
    for locked in [false, true] {
        let seat = SeatWord::joined(ME, Role::Secondary, locked);
        assert!(seat.is_valid() && seat.is_occupied_by(ME) && seat.role() == Role::Secondary);
        assert_eq!((seat.generation(), seat.is_locked(), seat.no_send()), (17, locked, false));
        assert_eq!(seat.vacated(), SeatWord::vacant(18));
        let recovered = seat.with_recoverer(7).with_recoverer(0);
        assert!(recovered.is_valid() && recovered.recoverers() == 0x81);
        assert_eq!(recovered.vacated(), SeatWord::vacant(18));
    }
    assert_eq!(SeatWord::vacant(31).vacated(), SeatWord::vacant(1));
    let vacant = SeatWord::vacant(3);
    assert!(vacant.is_valid() && !vacant.is_joined() && vacant.no_send() && vacant.no_recv());
}

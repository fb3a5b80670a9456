//! Which of the processes that connect are served next, and which give way: a state machine without I/O, with time passed in.
//!
//! A listener holds a bounded number of callers; the others wait in the kernel's queue, where they cost nothing. A caller is *silent*
//! until its JOIN has come, *waits* until memory is reserved for it, and is *offered* that memory until its READY has come.
//!
//! | what is scarce | limit | who gives way |
//! |---|---|---|
//! | descriptors: callers at a time | [`MAX_CALLERS`] | one that has been silent for [`SILENCE`]: of the user with most callers, the one silent for longest |
//! | memory: offers at a time | [`MAX_OFFERED`] bytes, but [`MIN_OFFERS`] in any case | one that was offered memory [`HESITATION`] ago, if others wait for some: of the user with most offers, the first |
//!
//! Where nobody has to give way, all have the time of their handshake's deadline.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Callers at a time.
pub(super) const MAX_CALLERS: usize = 256;
/// Bytes of memory that is offered and not taken.
const MAX_OFFERED: u64 = 64 << 20;
/// Offers at a time, whatever their memory is: one caller cannot keep all others from theirs.
const MIN_OFFERS: usize = 2;
/// How long a caller may be silent while others want its place.
pub(super) const SILENCE: Duration = Duration::from_millis(50);
/// How long a caller may take for its READY while others wait for memory.
const HESITATION: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Silent,
    Waiting,
    Offered { bytes: u64 },
}

/// A process that has connected.
#[derive(Debug)]
struct Caller<H> {
    handshake: H,
    uid: u32,
    stage: Stage,
    /// When the stage began.
    since: Instant,
    deadline: Option<Instant>,
}

impl<H> Caller<H> {
    fn due(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.stage != Stage::Waiting)
    }
}

/// The callers of a listener, with a handshake `H` each.
#[derive(Debug)]
pub(super) struct Admission<H> {
    callers: Vec<Caller<H>>,
    /// Nobody is taken in until then.
    rests_until: Option<Instant>,
}

/// Whether another caller can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// If this caller gives way.
    InPlaceOf(usize),
    /// Not before that time; `None` if that is when one of the callers is served.
    Full {
        until: Option<Instant>,
    },
}

/// Who gets memory next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextOffer {
    /// Nobody waits.
    Nobody,
    Caller(usize),
    /// The second waits, and the first gives way.
    InPlaceOf(usize, usize),
    /// Somebody waits; at that time one who hesitates may give way.
    Later(Instant),
}

impl<H> Admission<H> {
    pub(super) fn new() -> Self {
        Self { callers: Vec::new(), rests_until: None }
    }

    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    /// Takes a caller of the user `uid` in.
    pub(super) fn push(&mut self, handshake: H, uid: u32, now: Instant, deadline: Option<Instant>) {
        self.callers.push(Caller { handshake, uid, stage: Stage::Silent, since: now, deadline });
    }

    pub(super) fn remove(&mut self, index: usize) -> H {
        self.callers.remove(index).handshake
    }

    pub(super) fn get(&self, index: usize) -> &H {
        &self.callers[index].handshake
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut H {
        &mut self.callers[index].handshake
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &H> {
        self.callers.iter().map(|caller| &caller.handshake)
    }

    /// The caller's JOIN has come.
    pub(super) fn spoke(&mut self, index: usize, now: Instant) {
        self.enter(index, Stage::Waiting, now);
    }

    /// So many bytes were reserved for the caller, and offered. It has until `deadline`.
    pub(super) fn offered(&mut self, index: usize, bytes: u64, now: Instant, deadline: Option<Instant>) {
        self.enter(index, Stage::Offered { bytes }, now);
        self.callers[index].deadline = deadline;
    }

    fn enter(&mut self, index: usize, stage: Stage, now: Instant) {
        (self.callers[index].stage, self.callers[index].since) = (stage, now);
    }

    pub(super) fn is_offered(&self, index: usize) -> bool {
        matches!(self.callers[index].stage, Stage::Offered { .. })
    }

    /// A caller whose time is up. One that waits has done its part: it goes when it hangs up.
    pub(super) fn expired(&self, now: Instant) -> Option<usize> {
        let is_late = |caller: &Caller<H>| caller.due().is_some_and(|at| at <= now);
        self.callers.iter().position(is_late)
    }

    /// When the next caller's time is up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.callers.iter().filter_map(Caller::due).min()
    }

    /// How many callers in such a stage each user has.
    fn counts(&self, counted: impl Fn(Stage) -> bool) -> HashMap<u32, usize> {
        let mut counts = HashMap::new();
        for caller in self.callers.iter().filter(|caller| counted(caller.stage)) {
            *counts.entry(caller.uid).or_default() += 1;
        }
        counts
    }

    /// Of those in such a stage, one of the user with most of `counts`, and of these the one that is in it for longest.
    fn first_of_most(
        &self,
        counts: &HashMap<u32, usize>,
        counted: impl Fn(Stage) -> bool,
    ) -> Option<(usize, Instant)> {
        let callers = self.callers.iter().enumerate().filter(|(_, caller)| counted(caller.stage));
        let most = |caller: &Caller<H>| std::cmp::Reverse(counts.get(&caller.uid).copied().unwrap_or(0));
        callers
            .min_by_key(|(_, caller)| (most(caller), caller.since))
            .map(|(index, caller)| (index, caller.since))
    }

    /// Nobody is taken in until `until`: descriptors have run out.
    pub(super) fn rest(&mut self, until: Instant) {
        self.rests_until = Some(until);
    }

    /// Whether another caller can be taken in, of `most` at a time.
    pub(super) fn room(&self, most: usize, now: Instant) -> Room {
        if let Some(until) = self.rests_until.filter(|until| now < *until) {
            return Room::Full { until: Some(until) };
        }
        if self.callers.len() < most {
            return Room::Free;
        }
        match self.first_of_most(&self.counts(|_| true), |stage| stage == Stage::Silent) {
            Some((index, since)) if since + SILENCE <= now => Room::InPlaceOf(index),
            Some((_, since)) => Room::Full { until: Some(since + SILENCE) },
            None => Room::Full { until: None },
        }
    }

    /// Who gets memory next, if each link takes so many bytes.
    pub(super) fn next_offer(&self, bytes: u64, now: Instant) -> NextOffer {
        let is_offer = |stage| matches!(stage, Stage::Offered { .. });
        let counts = self.counts(is_offer);
        let waiting = self.callers.iter().enumerate().filter(|(_, caller)| caller.stage == Stage::Waiting);
        let fewest = |caller: &Caller<H>| counts.get(&caller.uid).copied().unwrap_or(0);
        let next = waiting.min_by_key(|(_, caller)| (fewest(caller), caller.since));
        let Some((next, _)) = next else { return NextOffer::Nobody };
        let offers = self.callers.iter().filter_map(|caller| match caller.stage {
            Stage::Offered { bytes } => Some(bytes),
            Stage::Silent | Stage::Waiting => None,
        });
        let (count, reserved) = offers.fold((0, 0u64), |(count, sum), bytes| (count + 1, sum + bytes));
        if count < MIN_OFFERS || reserved + bytes <= MAX_OFFERED {
            return NextOffer::Caller(next);
        }
        match self.first_of_most(&counts, is_offer) {
            Some((index, since)) if since + HESITATION <= now => NextOffer::InPlaceOf(index, next),
            Some((_, since)) => NextOffer::Later(since + HESITATION),
            None => NextOffer::Caller(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 1 << 20;
    const LARGE: u64 = 128 << 20;

    /// Callers named by numbers.
    fn admission(uids: &[u32], now: Instant) -> Admission<usize> {
        let mut admission = Admission::new();
        for (number, &uid) in uids.iter().enumerate() {
            admission.push(number, uid, now, Some(now + Duration::from_secs(5)));
        }
        admission
    }

    #[test]
    fn nobody_gives_way_where_there_is_room() {
        let now = Instant::now();
        let admission = admission(&[1, 1], now);
        assert_eq!(admission.room(3, now + Duration::from_secs(4)), Room::Free);
        assert_eq!(admission.next_offer(SMALL, now), NextOffer::Nobody);
        assert_eq!(admission.expired(now + Duration::from_millis(4999)), None);
        assert_eq!(admission.expired(now + Duration::from_secs(5)), Some(0));
        assert_eq!(admission.deadline(), Some(now + Duration::from_secs(5)));
    }

    #[test]
    fn who_waits_for_memory_is_not_late() {
        let now = Instant::now();
        let mut admission = admission(&[1], now);
        admission.spoke(0, now);
        let late = now + Duration::from_secs(60);
        assert_eq!((admission.expired(late), admission.deadline()), (None, None));
        admission.offered(0, SMALL, late, Some(late + Duration::from_secs(5)));
        assert_eq!(admission.expired(late), None);
        assert_eq!(admission.expired(late + Duration::from_secs(5)), Some(0));
    }

    #[test]
    fn the_silent_give_way_and_never_who_has_spoken() {
        let now = Instant::now();
        let mut admission = admission(&[1, 2, 2, 2], now);
        admission.spoke(1, now);
        // The user with most callers first, although its first has spoken.
        assert_eq!(admission.room(4, now), Room::Full { until: Some(now + SILENCE) });
        assert_eq!(admission.room(4, now + SILENCE), Room::InPlaceOf(2));
        assert_eq!(admission.remove(2), 2);
        assert_eq!(admission.remove(2), 3);
        // One caller each: the only silent one.
        assert_eq!(admission.room(2, now + SILENCE), Room::InPlaceOf(0));
        admission.spoke(0, now);
        assert_eq!(admission.room(2, now + Duration::from_secs(1)), Room::Full { until: None });
    }

    #[test]
    fn nobody_is_taken_in_while_descriptors_are_missing() {
        let now = Instant::now();
        let mut admission = admission(&[1], now);
        let later = now + Duration::from_millis(20);
        admission.rest(later);
        for most in [1, 2] {
            assert_eq!(
                admission.room(most, now + Duration::from_millis(19)),
                Room::Full { until: Some(later) }
            );
        }
        assert_eq!(admission.room(2, later), Room::Free);
        assert_eq!(admission.room(1, now + SILENCE), Room::InPlaceOf(0));
    }

    #[test]
    fn one_user_cannot_keep_another_from_memory() {
        let now = Instant::now();
        let mut admission = admission(&[1, 1, 1, 2], now);
        (0..4).for_each(|index| admission.spoke(index, now));
        for served in 0..2 {
            assert_eq!(admission.next_offer(LARGE, now), NextOffer::Caller([0, 3][served]));
            admission.offered([0, 3][served], LARGE, now, None);
        }
        // Two are served; the third waits until one of them hesitates, which is one of the user with most.
        let later = now + HESITATION;
        assert_eq!(admission.next_offer(LARGE, now), NextOffer::Later(later));
        assert_eq!(admission.next_offer(LARGE, later), NextOffer::InPlaceOf(0, 1));
        admission.remove(0);
        assert_eq!(admission.next_offer(LARGE, now), NextOffer::Caller(0));
    }

    #[test]
    fn small_links_are_offered_many_at_a_time() {
        let now = Instant::now();
        let mut admission = admission(&[7; 100], now);
        (0..100).for_each(|index| admission.spoke(index, now));
        let mut offers = 0;
        while let NextOffer::Caller(index) = admission.next_offer(SMALL, now) {
            admission.offered(index, SMALL, now, None);
            offers += 1;
        }
        assert_eq!(offers, 64);
        assert!(admission.is_offered(0) && !admission.is_offered(64));
    }
}

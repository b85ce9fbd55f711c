extern crate std;

use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const ALICE: DomId = DomId::new(1);
const BOB: DomId = DomId::new(2);
const RAM: FrameType = FrameType::DomainRam;

fn taken_by(owner: DomId) -> FrameInfo {
    let frame = FrameInfo::default();
    frame.allocate(FrameState::owned(owner, RAM, 0, 0)).unwrap();
    frame
}

#[test]
fn a_frame_of_zeros_is_reserved_and_gives_nothing() {
    let frame = FrameInfo::default();
    assert_eq!(frame.state(), FrameState::RESERVED);
    assert_eq!(frame.state().pack(), 0);
    assert_eq!(frame.links(), Links::default());
    assert_eq!(
        frame.get(DomId::new(0), FrameType::Reserved),
        Err(FrameError::NotOwned)
    );
    assert_eq!(
        frame.transfer(DomId::new(0), FrameType::Reserved, BOB),
        Err(FrameError::NotOwned)
    );
    assert_eq!(frame.put(), Err(FrameError::NotReferenced));
}

#[test]
fn only_what_the_caller_expects_is_referenced() {
    let frame = taken_by(ALICE);
    let not_yours = Err(FrameError::NotYours {
        owner: ALICE,
        kind: RAM,
    });
    assert_eq!(frame.get(BOB, RAM), not_yours);
    assert_eq!(frame.get(ALICE, FrameType::PageTable), not_yours);
    assert_eq!(frame.get(ALICE, RAM), Ok(()));
    assert_eq!(frame.state().references, 1);
}

#[test]
fn a_referenced_frame_does_not_change_hands() {
    let frame = taken_by(ALICE);
    frame.get(ALICE, RAM).unwrap();
    let referenced = Err(FrameError::StillReferenced(1));
    assert_eq!(frame.transfer(ALICE, RAM, BOB), referenced);
    assert_eq!(
        frame.release(FrameState::owned(ALICE, RAM, 0, 0)),
        referenced
    );
    assert_eq!(frame.put(), Ok(Left::Held));
    assert_eq!(frame.transfer(ALICE, RAM, BOB), Ok(()));
    assert_eq!(frame.state().owner, BOB);
    assert_eq!(frame.release(FrameState::owned(BOB, RAM, 0, 0)), Ok(()));
    assert_eq!(frame.state(), FrameState::RESERVED);
}

#[test]
fn a_frame_is_taken_once() {
    let frame = taken_by(ALICE);
    let again = frame.allocate(FrameState::owned(BOB, RAM, 0, 0));
    assert!(matches!(
        again,
        Err(FrameError::NotYours { owner: ALICE, .. })
    ));
    assert!(frame.mark_free(0).is_err());
}

#[test]
fn the_count_does_not_wrap() {
    let frame = taken_by(ALICE);
    let full = FrameState {
        references: u32::MAX,
        ..frame.state()
    };
    frame.state.store(full.pack(), Ordering::Relaxed);
    assert_eq!(frame.get(ALICE, RAM), Err(FrameError::TooManyReferences));
    assert_eq!(frame.state(), full);
}

#[test]
fn frames_of_a_larger_block_stay_together() {
    let frame = FrameInfo::default();
    frame.allocate(FrameState::owned(ALICE, RAM, 3, 1)).unwrap();
    assert_eq!(
        frame.transfer(ALICE, RAM, BOB),
        Err(FrameError::PartOfBlock)
    );
    frame.start_block(0).unwrap();
    assert_eq!(frame.transfer(ALICE, RAM, BOB), Ok(()));
}

#[test]
fn a_frame_that_is_given_up_is_freed_by_the_last_that_holds_it() {
    let frame = taken_by(ALICE);
    frame.get(ALICE, RAM).unwrap();
    frame.get(ALICE, RAM).unwrap();
    assert!(frame.give_up(BOB).is_err());
    assert_eq!(frame.give_up(ALICE), Ok(Left::Held));
    assert!(frame.give_up(ALICE).is_err());
    assert!(frame.get(ALICE, RAM).is_err());
    assert!(frame.transfer(ALICE, RAM, BOB).is_err());
    assert_eq!(frame.put(), Ok(Left::Held));
    assert_eq!(frame.put(), Ok(Left::Nothing));
    let alone = taken_by(BOB);
    assert_eq!(alone.give_up(BOB), Ok(Left::Nothing));
}

fn any_kind() -> impl Strategy<Value = FrameType> {
    prop::sample::select(std::vec![
        FrameType::Reserved,
        FrameType::Free,
        FrameType::Hypervisor,
        FrameType::PageTable,
        FrameType::DomainRam,
        FrameType::GivenUp,
    ])
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(DomId, FrameType),
    Release(DomId, FrameType),
    Get(DomId, FrameType),
    Put,
    GiveUp(DomId),
    Transfer(DomId, FrameType, DomId),
}

fn any_step() -> impl Strategy<Value = Step> {
    let domain = || (1..3u16).prop_map(DomId::new);
    let kind = || prop::sample::select(std::vec![RAM, FrameType::PageTable, FrameType::GivenUp]);
    prop_oneof![
        (domain(), kind()).prop_map(|(owner, kind)| Step::Allocate(owner, kind)),
        (domain(), kind()).prop_map(|(owner, kind)| Step::Release(owner, kind)),
        (domain(), kind()).prop_map(|(owner, kind)| Step::Get(owner, kind)),
        Just(Step::Put),
        domain().prop_map(Step::GiveUp),
        (domain(), kind(), domain()).prop_map(|(from, kind, to)| Step::Transfer(from, kind, to)),
    ]
}

/// The rules once more, as plainly as can be: owner, type and count, if it is owned.
type Model = Option<(DomId, FrameType, u32)>;

fn expected(model: Model, step: &Step) -> Option<Model> {
    match (step, model) {
        (Step::Allocate(owner, kind), None) => Some(Some((*owner, *kind, 0))),
        (Step::Release(owner, kind), Some((is, as_kind, 0)))
            if (*owner, *kind) == (is, as_kind) =>
        {
            Some(None)
        }
        (Step::Get(owner, kind), Some((is, as_kind, count)))
            if (*owner, *kind) == (is, as_kind) =>
        {
            Some(Some((is, as_kind, count + 1)))
        }
        (Step::Put, Some((owner, kind, count))) if count > 0 => {
            Some(Some((owner, kind, count - 1)))
        }
        (Step::GiveUp(owner), Some((is, RAM, count))) if *owner == is => {
            Some(Some((is, FrameType::GivenUp, count)))
        }
        (Step::Transfer(from, kind, to), Some((is, as_kind, 0)))
            if (*from, *kind) == (is, as_kind) =>
        {
            Some(Some((*to, as_kind, 0)))
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn states_survive_packing(
        owner: u16, kind in any_kind(), part: u8, references: u32
    ) {
        let state = FrameState { owner: DomId::new(owner), kind, part: Part(part), references };
        prop_assert_eq!(FrameState::unpack(state.pack()), state);
    }

    #[test]
    fn links_survive_packing(previous in 0..u32::MAX, next in 0..u32::MAX) {
        let frame = FrameInfo::default();
        for (previous, next) in [(Some(previous), Some(next)), (None, Some(next))] {
            let links = Links {
                previous: previous.map(FrameIndex::new),
                next: next.map(FrameIndex::new),
            };
            frame.set_links(links);
            prop_assert_eq!(frame.links(), links);
        }
    }

    #[test]
    fn a_frame_follows_the_rules(steps in prop::collection::vec(any_step(), 0..64)) {
        let frame = FrameInfo::default();
        let mut model: Model = None;
        for step in steps {
            let mut freed = false;
            let result = match step {
                Step::Allocate(owner, kind) => frame.allocate(FrameState::owned(owner, kind, 0, 0)),
                Step::Release(owner, kind) => frame.release(FrameState::owned(owner, kind, 0, 0)),
                Step::Get(owner, kind) => frame.get(owner, kind),
                Step::Put => frame.put().map(|left| freed |= left == Left::Nothing),
                Step::GiveUp(owner) => {
                    frame.give_up(owner).map(|left| freed |= left == Left::Nothing)
                }
                Step::Transfer(from, kind, to) => frame.transfer(from, kind, to),
            };
            let after = expected(model, &step);
            prop_assert_eq!(result.is_ok(), after.is_some(), "{:?} in {:?}", step, model);
            model = after.unwrap_or(model);
            // Whoever lets go last is told, once, and nobody else ever is.
            let unheld = model.is_some_and(|(_, kind, count)| {
                kind == FrameType::GivenUp && count == 0
            });
            let let_go = result.is_ok() && matches!(step, Step::Put | Step::GiveUp(_));
            prop_assert_eq!(freed, unheld && let_go);
            let state = frame.state();
            let is = state.is_owned().then_some((state.owner, state.kind, state.references));
            prop_assert_eq!(is, model);
        }
    }
}

/// Four threads reference a frame while it is passed on and given up: who holds a reference sees
/// the owner that it expected until it lets go.
#[test]
fn no_frame_changes_owner_while_referenced() {
    let frame = taken_by(ALICE);
    let shared = &frame;
    let moves = thread::scope(|scope| {
        let holders: Vec<_> = [ALICE, BOB, ALICE, BOB]
            .into_iter()
            .map(|owner| scope.spawn(move || hold(shared, owner)))
            .collect();
        let mut moves = 0;
        for (from, to) in [(ALICE, BOB), (BOB, ALICE)].into_iter().cycle() {
            moves += u32::from(pass_on(shared, from, to));
            if holders.iter().all(|holder| holder.is_finished()) {
                break;
            }
            thread::yield_now();
        }
        for holder in holders {
            holder.join().unwrap();
        }
        moves
    });
    assert!(moves > 0);
    assert_eq!(frame.state().references, 0);
}

const HOLDS: u32 = 10_000;
/// Then something is wrong: the frame never comes round.
const TRIES: u32 = 200_000_000;

fn hold(frame: &FrameInfo, owner: DomId) {
    let mut holds = 0;
    for _ in 0..TRIES {
        if frame.get(owner, RAM).is_err() {
            thread::yield_now();
            continue;
        }
        for _ in 0..8 {
            let state = frame.state();
            assert_eq!((state.owner, state.kind), (owner, RAM));
            assert!(state.references > 0);
        }
        assert_eq!(frame.put(), Ok(Left::Held));
        holds += 1;
        if holds == HOLDS {
            return;
        }
    }
    panic!("{holds} holds only");
}

/// By transfer, or by giving the frame up and taking it for the other.
fn pass_on(frame: &FrameInfo, from: DomId, to: DomId) -> bool {
    if frame.transfer(from, RAM, to).is_ok() {
        return true;
    }
    let released = frame.release(FrameState::owned(from, RAM, 0, 0)).is_ok();
    if released {
        frame.allocate(FrameState::owned(to, RAM, 0, 0)).unwrap();
    }
    released
}

use super::*;

const BEAT: Duration = Duration::from_secs(5);
const FIRST: AssignNumber = AssignNumber(7);

/// A stream on which the message 2 assigned jobs up to 7.
fn assigned(confirms: bool) -> Confirming {
    let confirming = Confirming::new(confirms, BEAT, Arc::default());
    // A heartbeat before, which tells that it numbers.
    confirming.heard(1, true);
    confirming.sent(2, FIRST, 100);
    confirming
}

/// How often it is looked in a second.
const LOOKS: u32 = 2;

fn look(confirming: &Confirming) -> Option<AssignNumber> {
    confirming.look(Duration::from_secs(1) / LOOKS)
}

/// How many seconds it takes to be given up, if it is within two minutes, with a beat every 5 s that says `received` if there
/// are any.
fn given_up_after(confirming: &Confirming, received: Option<u64>) -> Option<u32> {
    (1..=120 * LOOKS).find_map(|number| {
        if number % (5 * LOOKS) == 0
            && let Some(received) = received
        {
            confirming.heard(received, true);
        }
        look(confirming).map(|_| number / LOOKS)
    })
}

#[test]
fn what_an_elf_that_confirms_does_not_confirm_in_silence_is_given_up_soon() {
    let confirming = assigned(true);
    assert_eq!(given_up_after(&confirming, None), Some(5));
    assert_eq!(look(&confirming), Some(AssignNumber(0)), "none has reached it");
    // Part of it did.
    let confirming = assigned(true);
    confirming.heard(2, false);
    confirming.sent(3, AssignNumber(9), 100);
    assert_eq!(given_up_after(&confirming, None), Some(5));
    assert_eq!(look(&confirming), Some(FIRST));
}

#[test]
fn what_is_confirmed_is_never_given_up_however_long_it_runs_and_however_silent_its_elf() {
    for confirms in [true, false] {
        let confirming = assigned(confirms);
        assert_eq!(confirming.heard(2, false), FIRST);
        assert_eq!(given_up_after(&confirming, Some(2)), None);
        assert_eq!(given_up_after(&confirming, None), None);
    }
}

#[test]
fn an_elf_may_confirm_before_it_is_noted_what_it_was_sent() {
    let confirming = Confirming::new(true, BEAT, Arc::default());
    assert_eq!(confirming.heard(2, false), AssignNumber(0));
    confirming.sent(2, FIRST, 100);
    assert_eq!(given_up_after(&confirming, None), None);
    assert_eq!(confirming.heard(2, true), FIRST);
}

#[test]
fn beats_that_do_not_confirm_count_from_the_second_on() {
    for confirms in [true, false] {
        assert_eq!(given_up_after(&assigned(confirms), Some(1)), Some(10), "{confirms}");
    }
    // They come faster than anything could be confirmed.
    let confirming = assigned(false);
    (0..100).for_each(|_| assert_eq!(confirming.heard(1, true), AssignNumber(0)));
    assert_eq!(given_up_after(&confirming, Some(1)), Some(5));
    // Other messages may have been on their way for long.
    let confirming = assigned(false);
    (0..100).for_each(|_| assert_eq!(confirming.heard(1, false), AssignNumber(0)));
    assert_eq!(given_up_after(&confirming, None), Some(10));
}

#[test]
fn an_elf_that_only_beats_is_given_up_after_two_beats_of_silence() {
    assert_eq!(given_up_after(&assigned(false), None), Some(10));
}

#[test]
fn an_elf_that_never_says_what_it_has_received_is_not_judged() {
    let confirming = Confirming::new(false, BEAT, Arc::default());
    confirming.heard(0, true);
    confirming.sent(2, FIRST, 100);
    assert_eq!(given_up_after(&confirming, Some(0)), None);
    assert_eq!(given_up_after(&confirming, None), None);
}

#[test]
fn a_message_on_a_slow_line_is_waited_for() {
    // Down: two MiB are on their way, and beats come on.
    let confirming = Confirming::new(true, BEAT, Arc::default());
    confirming.sent(2, FIRST, 2 * 1024 * 1024);
    assert_eq!(given_up_after(&confirming, Some(1)), Some(37));
    // Up: something comes, and is not whole for long.
    let confirming = assigned(true);
    for brought in 0..60 {
        confirming.brought.fetch_add(1, Ordering::Relaxed);
        assert_eq!(look(&confirming), None, "after {brought} looks");
    }
    assert_eq!(given_up_after(&confirming, None), Some(5), "and then no more of it");
}

#[test]
fn each_assignment_has_its_own_time() {
    let confirming = assigned(true);
    for sequence in 3..40 {
        for _ in 0..2 * LOOKS {
            assert_eq!(look(&confirming), None, "before {sequence}");
        }
        confirming.sent(sequence, AssignNumber(sequence), 100);
        confirming.heard(sequence - 1, false);
    }
}

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(kind: AlertKind) -> AlertKey {
    AlertKey { kind, model: None, region: Some("us-east1".parse().unwrap()) }
}

/// Plays one finding a second: `w` well, `b` bad, `B` critically so, `?` unknown, `x` not looked at. Shown is `F` fired, `U` updated,
/// `R` resolved, `.` nothing.
fn play(kind: AlertKind, script: &str) -> String {
    let (mut holds, mut firing) = (Holds::default(), BTreeMap::new());
    let step = |(letter, second): (char, i64)| {
        let bad = |severity| Finding::Bad { severity, detail: format!("since {second}") };
        let finding = match letter {
            'w' => Some(Finding::Well),
            'b' => Some(bad(Severity::Warning)),
            'B' => Some(bad(Severity::Critical)),
            '?' => Some(Finding::Unknown),
            _ => None,
        };
        let findings = finding.map(|finding| (key(kind), finding)).into_iter().collect();
        let changes = holds.advance(&findings, &firing, at(second));
        assert!(changes.len() <= 1, "{changes:?}");
        match changes.into_iter().next() {
            None => '.',
            Some(Change::Fire { key, severity, detail, since }) => {
                let fired_at = at(second);
                let id = String::new();
                let alert = Alert {
                    id,
                    key: key.clone(),
                    severity,
                    detail,
                    since,
                    fired_at,
                    resolved_at: None,
                    hushed: false,
                    deliveries: BTreeMap::new(),
                };
                firing.insert(key, alert);
                'F'
            }
            Some(Change::Update { key, severity, .. }) => {
                firing.get_mut(&key).unwrap().severity = severity;
                'U'
            }
            Some(Change::Resolve { key }) => {
                firing.remove(&key).unwrap();
                'R'
            }
        }
    };
    script.chars().zip(1000..).map(step).collect()
}

fn check(kind: AlertKind, script: &str, expected: &str) {
    assert_eq!(play(kind, script), expected, "{script}");
}

#[test]
fn an_alert_fires_when_it_lasts_and_resolves_when_it_is_over_for_a_while() {
    let down = AlertKind::RegionDown;
    check(down, "wwBBB", "..F..");
    check(down, "Bwwwwwwwwwwww", "F..........R.");
    check(down, "Bwwwwwwwwwbwwwwwwwwwww", "F....................R");
    let gone = AlertKind::ModelUnavailable;
    check(gone, "bbbbb?bb", "......F.");
    check(gone, "bbbbwbbbbb", "..........");
    check(gone, "bbbbbb?????wwwwwwwwwww", ".....F...............R");
}

#[test]
fn what_gets_worse_is_told_again_and_what_gets_better_is_not() {
    check(AlertKind::ErrorBudgetBurn, "bbBBb", "F.U..");
}

#[test]
fn what_is_not_watched_any_more_resolves() {
    check(AlertKind::RegionDown, "Bxxxxxxxxxxxx", "F..........R.");
    check(AlertKind::ModelUnavailable, "bbbxbbbbbb", ".........F");
}

proptest! {
    #[test]
    fn firing_and_resolving_alternate(script in "[wbB?x]{0,300}", kind in 0..AlertKind::ALL.len()) {
        let told: String = play(AlertKind::ALL[kind], &script).chars().filter(|letter| matches!(letter, 'F' | 'R')).collect();
        prop_assert!(told.is_empty() || told.starts_with('F'));
        prop_assert!(!told.contains("FF") && !told.contains("RR"), "{}", told);
    }

    #[test]
    fn nothing_fires_without_a_finding(script in "[w?x]{0,300}", kind in 0..AlertKind::ALL.len()) {
        prop_assert!(play(AlertKind::ALL[kind], &script).chars().all(|letter| letter == '.'));
    }
}

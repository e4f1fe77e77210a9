//! Users who are pinned together.

use tradewind_api::{
    Code,
    deploy::{PinRequest, UnpinRequest},
};
use tradewind_core::{
    Digest,
    pins::table::{KeyHash, Table},
};

use super::*;

/// Put there, with so many users whose keys begin so.
async fn table(fleet: &Fleet, prefix: &str, users: usize) -> Digest {
    let hashes = (0..users).map(|number| KeyHash::of(format!("{prefix}-{number}").as_bytes()));
    fleet.put_table(Table::of(hashes.collect()).unwrap().bytes().to_vec()).await.unwrap()
}

fn pin(table: Digest, to: &str) -> PinRequest {
    let (users, to) = (Vec::new(), to.parse().unwrap());
    PinRequest { users, table: Some(table), to, lasts: None, requested_by: String::new() }
}

/// The tables of the route, newest first, with their users and what these get.
async fn tables(fleet: &Fleet) -> Vec<(Digest, u64, String)> {
    let pins = route(fleet).await.unwrap().pins;
    pins.tables.iter().map(|table| (table.digest, table.users, table.to.to_string())).collect()
}

#[tokio::test]
async fn tables_are_part_of_the_route_the_newest_first() {
    let (fleet, control) = serving(1).await;
    let (beta, staff) = (table(&fleet, "beta", 5000).await, table(&fleet, "staff", 20).await);
    let pinned = fleet.pin(pin(beta, "candidate")).await.unwrap();
    assert_eq!(pinned.committed.unwrap().epoch, Epoch(2), "numbered as every change of what users get");
    fleet.pin(pin(staff, "live")).await.unwrap();
    assert_eq!(tables(&fleet).await, [(staff, 20, "live".to_owned()), (beta, 5000, "candidate".to_owned())]);
    fleet.pin(pin(beta, "1")).await.unwrap();
    assert_eq!(tables(&fleet).await, [(beta, 5000, "1".to_owned()), (staff, 20, "live".to_owned())]);
    deploy(&fleet, request(&fleet, 2)).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(tables(&fleet).await.len(), 2, "through whatever becomes of the route");

    let unpin = |tables| UnpinRequest { tables, ..UnpinRequest::default() };
    fleet.unpin(unpin(vec![beta])).await.unwrap();
    let again = fleet.unpin(unpin(vec![beta])).await.unwrap_err();
    let expected = format!("no users of table {} are pinned", beta.short());
    assert_eq!((again.code, again.detail), (Code::NotFound, expected));
    fleet.unpin(UnpinRequest { all: true, ..UnpinRequest::default() }).await.unwrap();
    assert!(route(&fleet).await.unwrap().pins.is_empty());
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn what_is_no_table_or_too_much_is_not_pinned() {
    let (fleet, control) = serving(1).await;
    let check = async |request: PinRequest, code, expected: &str| {
        let refused = fleet.pin(request).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.detail.contains(expected), "{refused}");
    };
    let absent = Digest::from_bytes([7; 32]);
    check(pin(absent, "live"), Code::NotFound, "there is no table blake3:0707").await;
    let list = fleet.put_table(b"ada\nbob\n".to_vec()).await.unwrap();
    check(pin(list, "live"), Code::Invalid, "is no table of users").await;
    let some = table(&fleet, "some", 10).await;
    let both = PinRequest { users: vec!["ada".to_owned()], ..pin(some, "live") };
    check(both, Code::Invalid, "either users are named, or a table").await;
    check(pin(some, "9"), Code::NotFound, "has no revision 9").await;
    for number in 0..16 {
        fleet.pin(pin(table(&fleet, &format!("t{number}"), 1).await, "live")).await.unwrap();
    }
    check(pin(some, "live"), Code::TooLarge, "at most 16 tables of users").await;
    assert_eq!(tables(&fleet).await.len(), 16);
    control.stop().await;
    fleet.stop().await;
}

use std::{cell::Cell, sync::Arc, time::Duration};

use crate::gate::Gate;

#[tokio::test]
async fn who_waits_is_served_when_there_is_room_and_not_for_ever() {
    let gate = Arc::new(Gate::default());
    let room = Cell::new(0);
    let take = || (room.get() > 0).then(|| room.set(room.get() - 1));
    let long = Duration::from_millis(500);
    // Polled last, when two wait and the third was refused.
    let free = async {
        room.set(1);
        gate.freed();
    };
    let (one, other, none, ()) =
        tokio::join!(biased; gate.pass(2, long, take), gate.pass(2, long, take), gate.pass(2, long, take), free);
    assert_eq!((one, other), (Some(()), None), "the first is served, the second waits in vain");
    assert_eq!(none, None, "there is room for two to wait");
    assert_eq!(gate.waiting(), 0);
}

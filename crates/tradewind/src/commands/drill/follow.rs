//! Following a drill to its end. Who leaves ends it.

use std::time::Duration;

use tokio::time;
use tradewind_api::drill::DrillView;
use tradewind_core::{DrillNumber, Timestamp, drill::DrillState};

use super::lines;
use crate::{
    failure::Failure,
    outage::{Next, Outage},
    session::Session,
    terminal::{self, Format},
};

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn follow(session: &Session, number: DrillNumber, format: Format) -> Result<DrillView, Failure> {
    tokio::select! {
        view = watch(session, number, format) => view,
        _ = tokio::signal::ctrl_c() => Err(leave(session, number).await),
    }
}

/// Says each step once, and returns when everything is measured.
async fn watch(session: &Session, number: DrillNumber, format: Format) -> Result<DrillView, Failure> {
    let mut outage = Outage::default();
    let mut told = 0;
    loop {
        let mut pause = LOOK_INTERVAL;
        match session.client.drill(&number.to_string()).await {
            Ok(view) => {
                outage.over();
                let steps = lines::steps(&view.drill, Timestamp::now());
                if format == Format::Table {
                    steps.iter().skip(told).for_each(|step| terminal::complain(&format!("  {step}\n")));
                }
                told = told.max(steps.len());
                if view.drill.state == DrillState::Done {
                    return Ok(view);
                }
            }
            Err(error) if error.retryable() => match outage.failed() {
                Next::GiveUp => {
                    return Err(Failure::from(error)
                        .note("The region is let back in time all the same: its gateways count the time themselves.")
                        .hint(format!("see the record when control answers again: tradewind drill show {number}")));
                }
                Next::Retry { after, say } => {
                    pause = after;
                    if say {
                        terminal::complain("  control does not answer; the region is let back in time all the same\n");
                    }
                }
            },
            Err(error) => return Err(error.into()),
        }
        time::sleep(pause).await;
    }
}

/// Ends the drill before its time.
async fn leave(session: &Session, number: DrillNumber) -> Failure {
    let stopped = session.client.stop_drill(&number.to_string()).await;
    let show = format!("see what was measured: tradewind drill show {number}");
    match stopped {
        Ok(view) => Failure::unfinished(format!("drill {number} was ended before its time"))
            .note(format!("{} is let back, and its users return.", view.drill.region))
            .hint(show),
        // Its time was over before, and its users return.
        Err(error) if !error.retryable() => {
            Failure::unfinished(format!("drill {number} is over, and the return of its users was not waited for"))
                .hint(show)
        }
        Err(error) => Failure::from(error)
            .note(format!("Drill {number} could not be ended; the region's gateways end it themselves in time."))
            .hint("to end it at once when control answers again: tradewind drill stop"),
    }
}

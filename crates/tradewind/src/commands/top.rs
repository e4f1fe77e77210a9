//! `tradewind top`: the world live in the terminal.
//!
//! [`state`] holds what is shown, [`keys`] says what each key does to it, [`view`] draws it; none of them reads a clock
//! or waits. Here they meet the terminal and control.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tradewind_api::client;
use tradewind_core::{Timestamp, duration::Span};

use crate::{failure::Failure, roles::StopSignals, session::Session};

#[cfg(test)]
mod fixtures;
mod history;
mod keys;
mod lists;
mod load;
mod poll;
mod state;
mod view;
mod window;

use keys::Effect;
use poll::{Look, Wanted};
use state::Top;
use window::Window;

/// Between two pictures: what comes faster is drawn together, which matters over a slow line.
const FRAME: Duration = Duration::from_millis(250);
/// Times grow older on the screen even if nothing else changes.
const TICK: Duration = Duration::from_secs(1);

/// The world live in the terminal: regions, models, requests, latency, alerts, events
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind top
  tradewind top --interval 5s")]
pub(crate) struct Args {
    /// How often to look, from 250ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Span,
}

fn parse_interval(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: tradewind_core::duration::InvalidDuration| error.to_string())?;
    if (Duration::from_millis(250)..=Duration::from_secs(60)).contains(&span.duration()) {
        Ok(span)
    } else {
        Err("write a time from 250ms to 1m".to_owned())
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    needs_a_terminal()?;
    let interval = args.interval.duration();
    // What is wrong from the start is said where errors are always said.
    let first = poll::look(&session.client, &Wanted::default(), None).await?;
    let newest_event = first.newest_event();
    let top = Top::new(session.client.base(), interval, first);
    let (wants, wanted) = watch::channel(top.wanted());
    let (answers, looks) = mpsc::channel(1);
    let window = Window::open().map_err(|error| broken(&error))?;
    tokio::select! {
        ended = (Live { top, window, wants, looks }).run() => ended,
        // It ends after whoever takes its answers.
        () = poll::run(session.client.clone(), interval, newest_event, wanted, answers) => Ok(()),
    }
}

fn needs_a_terminal() -> Result<(), Failure> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb {
        return Ok(());
    }
    Err(Failure::usage("`tradewind top` draws on a terminal, and there is none here")
        .hint("`tradewind status --watch` prints what changes, `tradewind status -o json` is for programs"))
}

fn broken(error: &io::Error) -> Failure {
    Failure::failed("the terminal does not work").cause(error.to_string())
}

/// The running screen.
struct Live {
    top: Top,
    window: Window,
    wants: watch::Sender<Wanted>,
    looks: mpsc::Receiver<Result<Look, client::Error>>,
}

impl Live {
    async fn run(mut self) -> Result<(), Failure> {
        let mut stop = StopSignals::catch();
        let mut input = EventStream::new();
        let mut ticks = time::interval(TICK);
        let (mut changed, mut next_frame) = (true, Instant::now());
        loop {
            tokio::select! {
                () = stop.any() => return Ok(()),
                event = input.next() => match event {
                    Some(Ok(event)) => if self.take(&event)? == Effect::Quit { return Ok(()) },
                    Some(Err(error)) => return Err(broken(&error)),
                    // Nobody is at the keys any more.
                    None => return Ok(()),
                },
                Some(answer) = self.looks.recv() => match answer {
                    Ok(look) => self.top.see(look),
                    Err(error) if error.retryable() => self.top.miss(Failure::from(error).root().to_owned()),
                    Err(error) => return Err(error.into()),
                },
                _ = ticks.tick() => {}
                () = time::sleep_until(next_frame), if changed => {
                    let now = Timestamp::now();
                    self.window.draw(|frame| view::render(&self.top, now, frame)).map_err(|error| broken(&error))?;
                    (changed, next_frame) = (false, Instant::now() + FRAME);
                    continue;
                }
            }
            changed = true;
            let wanted = self.top.wanted();
            self.wants.send_if_modified(|wants| {
                *wants != wanted && {
                    *wants = wanted;
                    true
                }
            });
        }
    }

    fn take(&mut self, event: &Event) -> Result<Effect, Failure> {
        let Some(key) = event.as_key_press_event() else { return Ok(Effect::None) };
        let effect = self.top.press(key);
        if effect == Effect::Suspend {
            self.window.suspend().map_err(|error| broken(&error))?;
        }
        Ok(effect)
    }
}

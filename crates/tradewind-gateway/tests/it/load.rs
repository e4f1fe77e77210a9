//! Users who ask without end, and what they were answered.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::world::{World, header};

impl World {
    /// Asks a gateway from several users at once until told to stop; returns how many answers each pair of region and
    /// slot gave, and what failed.
    pub(crate) fn load(&self, name: &str, users: usize) -> Load {
        let stop = CancellationToken::new();
        let tasks = (0..users).map(|_| {
            let (request, stop) = (self.infer(name), stop.clone());
            tokio::spawn(async move {
                let mut answers = Answers::default();
                while !stop.is_cancelled() {
                    let asked = Instant::now();
                    match request.try_clone().unwrap().send().await {
                        Ok(response) if response.status() == 200 => {
                            let by = (header(&response, "x-tradewind-region"), header(&response, "x-tradewind-slot"));
                            match response.bytes().await {
                                Ok(_) => answers.good.push((asked, by.0, by.1)),
                                Err(error) => answers.failed.push(format!("body: {error:?}")),
                            }
                        }
                        Ok(response) => {
                            let head = format!("{response:?}");
                            answers.failed.push(format!("{head} {:?}", response.text().await));
                        }
                        Err(error) => answers.failed.push(format!("{error:?}")),
                    }
                }
                answers
            })
        });
        Load { tasks: tasks.collect(), stop }
    }
}

pub(crate) struct Load {
    tasks: Vec<tokio::task::JoinHandle<Answers>>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// When asked, the region, the slot.
    pub(crate) good: Vec<(Instant, String, String)>,
    pub(crate) failed: Vec<String>,
}

impl Load {
    pub(crate) async fn stop(self) -> Answers {
        self.stop.cancel();
        let mut all = Answers::default();
        for task in self.tasks {
            let answers = task.await.unwrap();
            all.good.extend(answers.good);
            all.failed.extend(answers.failed);
        }
        all
    }
}

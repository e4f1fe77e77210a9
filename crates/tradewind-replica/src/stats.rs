//! What a model has done since it was loaded, counted as Triton counts it. Probes are not counted.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tradewind_api::grpc::message::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

/// Batch sizes that are told apart. What is executed in a further one counts in all but `batch_stats`.
const BATCH_SIZES_LIMIT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last_inference: u64,
    inferences: u64,
    executions: u64,
    success: Sum,
    fail: Sum,
    queue: Sum,
    compute: Phases<Sum>,
    batches: BTreeMap<u64, Phases<Sum>>,
}

/// The three parts of the work: to make tensors of what came, to run the model, to write what comes out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Phases<T> {
    pub(crate) input: T,
    pub(crate) infer: T,
    pub(crate) output: T,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) came: SystemTime,
    /// From its first byte to its answer.
    pub(crate) took: Duration,
    /// How long it waited for the model.
    pub(crate) queued: Duration,
    pub(crate) phases: Phases<Duration>,
}

/// One run of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Execution {
    /// Inferences that were put together for it.
    pub(crate) batch_size: u64,
    pub(crate) phases: Phases<Duration>,
}

impl Statistics {
    pub(crate) fn answered(&self, answered: &Answered) {
        let came = answered.came.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut counts = self.counts();
        counts.last_inference = counts.last_inference.max(u64::try_from(came.as_millis()).unwrap_or(u64::MAX));
        counts.success.add(answered.took);
        counts.queue.add(answered.queued);
        counts.compute.add(answered.phases);
    }

    /// A request that fitted the model and still was not answered.
    pub(crate) fn failed(&self, took: Duration) {
        self.counts().fail.add(took);
    }

    pub(crate) fn executed(&self, execution: &Execution) {
        let mut counts = self.counts();
        counts.executions += 1;
        counts.inferences += execution.batch_size;
        if counts.batches.len() < BATCH_SIZES_LIMIT || counts.batches.contains_key(&execution.batch_size) {
            counts.batches.entry(execution.batch_size).or_default().add(execution.phases);
        }
    }

    pub(crate) fn of(&self, name: &str, version: &str) -> ModelStatistics {
        let counts = self.counts();
        let batch = |(&batch_size, phases): (&u64, &Phases<Sum>)| InferBatchStatistics {
            batch_size,
            compute_input: phases.input.told(),
            compute_infer: phases.infer.told(),
            compute_output: phases.output.told(),
        };
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: counts.last_inference,
            inference_count: counts.inferences,
            execution_count: counts.executions,
            inference_stats: Some(InferStatistics {
                success: counts.success.told(),
                fail: counts.fail.told(),
                queue: counts.queue.told(),
                compute_input: counts.compute.input.told(),
                compute_infer: counts.compute.infer.told(),
                compute_output: counts.compute.output.told(),
                cache_hit: Sum::default().told(),
                cache_miss: Sum::default().told(),
            }),
            batch_stats: counts.batches.iter().map(batch).collect(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Whoever panics while counting leaves sums that are still sums.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, time: Duration) {
        self.count += 1;
        self.time = self.time.saturating_add(time);
    }

    fn told(self) -> Option<StatisticDuration> {
        let ns = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        Some(StatisticDuration { count: self.count, ns })
    }
}

impl Phases<Sum> {
    fn add(&mut self, took: Phases<Duration>) {
        self.input.add(took.input);
        self.infer.add(took.infer);
        self.output.add(took.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(input: u64, infer: u64, output: u64) -> Phases<Duration> {
        let [input, infer, output] = [input, infer, output].map(Duration::from_nanos);
        Phases { input, infer, output }
    }

    fn sum(count: u64, ns: u64) -> Option<StatisticDuration> {
        Some(StatisticDuration { count, ns })
    }

    #[test]
    fn requests_and_executions_are_counted_apart() {
        let statistics = Statistics::default();
        let came = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        for queued in [5, 7] {
            let queued = Duration::from_nanos(queued);
            let took = Duration::from_nanos(100);
            statistics.answered(&Answered { came, took, queued, phases: phases(1, 20, 3) });
        }
        statistics.executed(&Execution { batch_size: 2, phases: phases(2, 20, 6) });
        statistics.failed(Duration::from_nanos(9));
        let told = statistics.of("add", "3");
        assert_eq!((told.name.as_str(), told.version.as_str()), ("add", "3"));
        assert_eq!((told.inference_count, told.execution_count), (2, 1));
        assert_eq!(told.last_inference, 1_700_000_000_123);
        let of_requests = told.inference_stats.unwrap();
        assert_eq!((of_requests.success, of_requests.fail), (sum(2, 200), sum(1, 9)));
        assert_eq!((of_requests.queue, of_requests.compute_input), (sum(2, 12), sum(2, 2)));
        assert_eq!((of_requests.compute_infer, of_requests.compute_output), (sum(2, 40), sum(2, 6)));
        assert_eq!((of_requests.cache_hit, of_requests.cache_miss), (sum(0, 0), sum(0, 0)));
        let [batch] = told.batch_stats[..] else { panic!("{told:?}") };
        assert_eq!((batch.batch_size, batch.compute_input), (2, sum(1, 2)));
        assert_eq!((batch.compute_infer, batch.compute_output), (sum(1, 20), sum(1, 6)));
    }

    #[test]
    fn batch_sizes_without_end_take_no_memory() {
        let statistics = Statistics::default();
        for batch_size in 0..10_000 {
            statistics.executed(&Execution { batch_size, phases: phases(0, 1, 0) });
        }
        statistics.executed(&Execution { batch_size: 1, phases: phases(0, 1, 0) });
        let told = statistics.of("add", "3");
        assert_eq!((told.execution_count, told.batch_stats.len()), (10_001, BATCH_SIZES_LIMIT));
        assert_eq!(told.batch_stats[1].compute_infer, sum(2, 2));
    }
}

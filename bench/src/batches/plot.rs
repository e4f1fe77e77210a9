//! The plot in the documentation: what a batch costs, and what more workers do.

use super::{Effort, contender::Contender, findings::Findings};
use crate::bars::{self, Group, Panel};

pub(super) fn svg(found: &Findings, effort: &Effort) -> String {
    let groups = |value: &dyn Fn(Contender, usize) -> Option<f64>| -> Vec<Group> {
        let group = |contender: &Contender| {
            let widths = effort.widths.iter().enumerate();
            let bars = widths.filter_map(|(place, workers)| Some((place, value(*contender, *workers)?)));
            // A logarithmic axis has no place for others.
            let bars: Vec<_> = bars.filter(|(_, value)| *value > 0.0).collect();
            (!bars.is_empty()).then(|| Group { name: contender.name().to_owned(), bars })
        };
        effort.contenders.iter().filter_map(group).collect()
    };
    let panels = [
        Panel {
            title: "what a batch more costs that is next to no work, ms".to_owned(),
            groups: groups(&|contender, workers| Some(found.cost((contender, workers))?.median * 1e3)),
            logarithmic: true,
            digits: 2,
        },
        Panel {
            title: "how many times as fast more workers are than one, where batches are work".to_owned(),
            groups: groups(&|contender, workers| {
                let is_more = workers > 1;
                is_more.then(|| found.speed_up((contender, workers)))?.map(|spread| spread.median)
            }),
            logarithmic: false,
            digits: 2,
        },
    ];
    let legend: Vec<String> = effort.widths.iter().map(|workers| format!("workers: {workers}")).collect();
    let legend: Vec<&str> = legend.iter().map(String::as_str).collect();
    bars::svg("What batches cost", &legend, &panels)
}

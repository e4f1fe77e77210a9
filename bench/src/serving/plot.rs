//! The plot in the documentation: what each server answers in a second, a panel for each model.

use super::{
    USUAL_CLIENTS,
    contender::{Contender, Model, Route},
    findings::{Findings, Setting},
};
use crate::{
    bars::{self, Group, Panel},
    spread::Spread,
};

const ROUTES: [Route; 3] = [Route::Json, Route::Binary, Route::Grpc];

pub(super) fn svg(found: &Findings) -> String {
    let panels = Model::ALL.map(|model| Panel {
        title: format!("requests/s, {} model, {USUAL_CLIENTS} clients", model.name()),
        groups: groups(found, model),
        logarithmic: true,
        digits: 0,
    });
    let legend: Vec<&str> = ROUTES.into_iter().map(Route::name).chain(["no server"]).collect();
    bars::svg("What each server answers in a second", &legend, &panels)
}

fn groups(found: &Findings, model: Model) -> Vec<Group> {
    let mut groups: Vec<Group> = Contender::ALL
        .into_iter()
        .filter_map(|contender| {
            let rate = |route| {
                let setting = Setting { model, contender, route, clients: USUAL_CLIENTS };
                found.spread(setting, |sample| sample.per_second).map(|spread| spread.median)
            };
            let bars = ROUTES.into_iter().enumerate().filter_map(|(index, route)| Some((index, rate(route)?)));
            let bars: Vec<_> = bars.collect();
            (!bars.is_empty()).then(|| Group { name: contender.name().to_owned(), bars })
        })
        .collect();
    if let Some((batch, rates)) = found.best_loop(model) {
        let name = format!("bare loop, batches of {batch}");
        groups.push(Group { name, bars: vec![(ROUTES.len(), Spread::of(rates).median)] });
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serving::load::Sample;

    #[test]
    fn each_way_to_ask_has_its_bar() {
        let setting = Setting {
            model: Model::Small,
            contender: Contender::Tradewind,
            route: Route::Json,
            clients: USUAL_CLIENTS,
        };
        let zero = Duration::ZERO;
        let sample = Sample { per_second: 1234.0, p50: zero, p99: zero, core_micros: 1.0, good: 1, bad: 0 };
        let mut found = Findings::default();
        found.samples.insert(setting, vec![sample]);
        found.samples.insert(Setting { route: Route::Grpc, ..setting }, vec![sample]);
        let svg = svg(&found);
        assert_eq!((svg.matches(">1234</text>").count(), svg.matches("bold").count()), (2, 1), "{svg}");
    }
}

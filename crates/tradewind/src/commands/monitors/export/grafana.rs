//! A dashboard for Grafana: one screen from the whole world down to its processes.

mod panels;

use serde_json::{Value, json};

use self::panels::{Panel, ROWS};

/// The version of the form of dashboards that this is written in.
const SCHEMA_VERSION: u32 = 39;

pub(super) fn dashboard() -> Value {
    json!({
        "uid": "tradewind",
        "title": "Tradewind",
        "tags": ["tradewind"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": variables()},
        "panels": panels(),
    })
}

/// The data source to choose, then models and regions to look at.
fn variables() -> Value {
    let label = |name: &str, label: &str, metric: &str| {
        let query = format!("label_values({metric}, {name})");
        json!({
            "name": name, "label": label, "type": "query", "datasource": datasource(),
            "query": {"query": query, "refId": name}, "definition": query,
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        })
    };
    json!([
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        label("model", "Model", "tradewind_gateway_requests_total"),
        label("region", "Region", "tradewind_control_region_drained"),
    ])
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Places rows below each other, and panels side by side as far as they fit.
fn panels() -> Vec<Value> {
    let (mut placed, mut top) = (Vec::new(), 0);
    for (title, panels) in ROWS {
        let id = placed.len() + 1;
        placed.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }));
        top += 1;
        let (mut left, mut height) = (0, 0);
        for panel in *panels {
            if left + panel.width > COLUMNS {
                (left, top) = (0, top + height);
            }
            height = panel.height();
            placed.push(panel.placed(placed.len() + 1, left, top));
            left += panel.width;
        }
        top += height;
    }
    placed
}

const COLUMNS: u64 = 24;

impl Panel {
    fn height(&self) -> u64 {
        if self.kind == "stat" { 4 } else { 8 }
    }

    fn placed(&self, id: usize, left: u64, top: u64) -> Value {
        let targets: Vec<Value> = ('A'..).zip(self.queries).map(|(name, query)| self.target(name, query)).collect();
        let mut panel = json!({
            "id": id, "type": self.kind, "title": self.title, "datasource": datasource(), "targets": targets,
            "gridPos": {"x": left, "y": top, "w": self.width, "h": self.height()},
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0}, "overrides": []},
        });
        if self.kind == "heatmap" {
            panel["options"] = json!({"calculate": false, "yAxis": {"unit": self.unit}});
        }
        panel
    }

    fn target(&self, name: char, (query, legend): &(&str, &str)) -> Value {
        let format = match self.kind {
            "heatmap" => "heatmap",
            "table" => "table",
            _ => "time_series",
        };
        json!({
            "refId": name.to_string(), "datasource": datasource(), "expr": query, "legendFormat": legend,
            "format": format, "instant": matches!(self.kind, "stat" | "table"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn panels_lie_in_the_grid_and_upon_no_other() {
        let mut taken = BTreeSet::new();
        for panel in panels() {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= COLUMNS, "{panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{panel} lies upon another");
            }
        }
    }

    #[test]
    fn queries_know_their_metrics() {
        for (query, _) in ROWS.iter().flat_map(|(_, panels)| *panels).flat_map(|panel| panel.queries) {
            super::super::queries::check(query);
        }
    }
}

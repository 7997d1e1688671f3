//! Steps and transfers sorted into lanes, one per platform and worker of a farm, and rows in which nothing
//! overlaps.

use super::record::{Record, StepRecord, TransferRecord};

/// What belongs to one platform, or to one worker of a farm.
pub struct Lane<'r> {
    /// The platform, with the worker if there is one; or `registry` for transfers that name none.
    pub name: String,
    /// A name (the stage), and its steps in the order of their begins.
    pub rows: Vec<(String, Vec<&'r StepRecord>)>,
    pub transfers: Vec<Vec<&'r TransferRecord>>,
}

/// The lanes in the order of the platforms.
pub fn lanes(record: &Record) -> Vec<Lane<'_>> {
    let mut names: Vec<String> = record.platforms.clone();
    names.extend(record.steps.iter().map(lane_of));
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    let empty = |name: &str| Lane { name: name.to_string(), rows: Vec::new(), transfers: Vec::new() };
    for name in names {
        if !lanes.iter().any(|lane| lane.name == name) {
            lanes.push(empty(&name));
        }
    }
    for step in &record.steps {
        let name = lane_of(step);
        let lane = lanes.iter_mut().find(|lane| lane.name == name).expect("each target has a lane");
        match lane.rows.iter_mut().find(|(stage, _)| *stage == step.stage) {
            Some((_, steps)) => steps.push(step),
            None => lane.rows.push((step.stage.clone(), vec![step])),
        }
    }
    for transfer in &record.transfers {
        let name = transfer.platform().unwrap_or("registry");
        let at = lanes.iter().position(|lane| lane.name == name).unwrap_or_else(|| {
            lanes.push(empty(name));
            lanes.len() - 1
        });
        let rows = &mut lanes[at].transfers;
        let is_free = |row: &&mut Vec<&TransferRecord>| {
            row.last().is_none_or(|last| last.to.unwrap_or(record.milliseconds) <= transfer.from)
        };
        match rows.iter_mut().find(is_free) {
            Some(row) => row.push(transfer),
            None => rows.push(vec![transfer]),
        }
    }
    for (_, steps) in lanes.iter_mut().flat_map(|lane| &mut lane.rows) {
        steps.sort_by(|a, b| a.from().total_cmp(&b.from()));
    }
    lanes
}

/// The lane of a step.
fn lane_of(step: &StepRecord) -> String {
    match step.worker.as_deref() {
        None => step.target.clone(),
        Some("") => format!("{} on the farm", step.target),
        Some(worker) => format!("{} on {worker}", step.target),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn each_platform_has_a_lane_and_each_stage_a_row() {
        let mut record = record();
        record.platforms.insert(0, "linux/amd64".to_string());
        let mut other = record.transfers[0].clone();
        other.label = "pull config".to_string();
        let again = TransferRecord { from: 105.0, ..record.transfers[0].clone() };
        record.transfers.extend([other, again]);
        let lanes = lanes(&record);
        let names: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
        assert_eq!(names, ["linux/amd64", "linux/arm64", "registry"]);
        let rows: Vec<(&str, usize)> =
            lanes[1].rows.iter().map(|(name, s)| (name.as_str(), s.len())).collect();
        assert_eq!(rows, [("a", 1), ("0", 3)]);
        assert_eq!((lanes[1].transfers.len(), lanes[2].transfers.len()), (2, 1), "these two overlap");
    }

    #[test]
    fn each_worker_has_a_lane() {
        let mut record = record();
        record.steps[1].worker = Some("one".to_string());
        record.steps[2].worker = Some(String::new());
        let names: Vec<String> = lanes(&record).into_iter().map(|lane| lane.name).collect();
        assert_eq!(names, ["linux/arm64", "linux/arm64 on one", "linux/arm64 on the farm"]);
    }
}

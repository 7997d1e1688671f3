//! Notes the steps of a build while it runs, for its provenance.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crossdock_builder::{Event, Events, StepId, StepInfo};
use crossdock_dockerfile::Dockerfile;
use crossdock_dockerfile::instruction::Kind;
use crossdock_oci::Digest;
use crossdock_platform::Platform;

/// Passes events on, and notes the steps that they tell of.
pub struct Steps<'a> {
    events: &'a dyn Events,
    started: SystemTime,
    noted: Mutex<BTreeMap<StepId, Step>>,
}

/// One step of a build.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is.
    pub info: StepInfo,
    /// Digest of everything that it depends on, once that is known.
    pub key: Option<Digest>,
    /// The steps that it builds on.
    pub inputs: Vec<StepId>,
}

/// The steps for the image of one platform, numbered from 0.
#[derive(Clone, Debug, Default)]
pub struct StepList(Vec<(StepId, Step)>);

impl<'a> Steps<'a> {
    /// Passes everything on to `events`. The build counts as started now.
    pub fn new(events: &'a dyn Events) -> Steps<'a> {
        Steps { events, started: SystemTime::now(), noted: Mutex::default() }
    }

    /// When the build began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The steps for one platform of the request. Their order is that of the Dockerfile, so that it is the
    /// same in each build, although stages run at the same time.
    pub fn of(&self, target: &Platform) -> StepList {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let own = noted.iter().filter(|(_, step)| step.info.target == *target);
        let mut steps: Vec<(StepId, Step)> = own.map(|(id, step)| (*id, step.clone())).collect();
        // Steps of one stage come one after the other, so their numbers are in order.
        steps.sort_by_key(|(id, step)| (step.info.lines.start, *id));
        StepList(steps)
    }
}

impl Events for Steps<'_> {
    fn event(&self, event: Event) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::Started { step, info } => {
                noted.insert(*step, Step { info: (**info).clone(), key: None, inputs: Vec::new() });
            }
            Event::Keyed { step, digest, inputs } => {
                if let Some(step) = noted.get_mut(step) {
                    (step.key, step.inputs) = (Some(digest.clone()), inputs.clone());
                }
            }
            _ => {}
        }
        drop(noted);
        self.events.event(event);
    }
}

impl StepList {
    /// The steps in order, each with the places in this list of the steps that it builds on.
    pub fn with_inputs(&self) -> impl Iterator<Item = (&Step, Vec<usize>)> {
        let places: HashMap<StepId, usize> =
            self.0.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        self.0.iter().map(move |(_, step)| {
            let mut inputs: Vec<usize> =
                step.inputs.iter().filter_map(|id| places.get(id).copied()).collect();
            inputs.sort_unstable();
            (step, inputs)
        })
    }

    /// Whether some RUN could reach a network. `offline` says that RUN has none unless the Dockerfile says
    /// otherwise. A RUN that is not in the Dockerfile (an ONBUILD trigger) counts as able.
    pub fn reach_network(&self, file: &Dockerfile, offline: bool) -> bool {
        let is_offline = |step: &Step| {
            let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
            let mut here = instructions.filter(|one| one.lines == step.info.lines);
            match here.next().map(|one| &one.kind) {
                Some(Kind::Run(run)) => match run.network.as_deref() {
                    None | Some("default") => offline,
                    Some(network) => network == "none",
                },
                _ => false,
            }
        };
        self.0.iter().any(|(_, step)| step.info.command.starts_with("RUN ") && !is_offline(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_builder::Silent;
    use crossdock_dockerfile::Lines;

    fn started(steps: &Steps<'_>, step: StepId, command: &str, line: usize, target: &str) {
        let platform: Platform = target.parse().expect("a platform");
        let info = StepInfo {
            name: command.into(),
            command: command.into(),
            stage: "0".into(),
            platform: platform.clone(),
            target: platform,
            is_emulated: false,
            lines: Lines { start: line, end: line },
        };
        steps.event(Event::Started { step, info: Box::new(info) });
    }

    #[test]
    fn steps_come_in_the_order_of_the_dockerfile() {
        let steps = Steps::new(&Silent);
        started(&steps, 1, "FROM b", 3, "linux/amd64");
        started(&steps, 2, "FROM a", 1, "linux/amd64");
        started(&steps, 3, "FROM a", 1, "linux/arm64");
        started(&steps, 4, "RUN x", 2, "linux/amd64");
        steps.event(Event::Keyed { step: 1, digest: Digest::of(b"1"), inputs: vec![4, 3] });
        let list = steps.of(&"linux/amd64".parse().expect("a platform"));
        let shown: Vec<(&str, Vec<usize>)> =
            list.with_inputs().map(|(step, inputs)| (&step.info.command[..], inputs)).collect();
        assert_eq!(shown, [("FROM a", vec![]), ("RUN x", vec![]), ("FROM b", vec![1])]);
    }

    #[test]
    fn only_commands_reach_a_network() {
        let text = b"FROM a\nRUN --network=none x\nRUN y\n";
        let file = Dockerfile::parse(text).expect("a Dockerfile");
        for (commands, offline, reach) in [
            (&[("RUN x", 2)][..], false, false),
            (&[("RUN x", 2), ("RUN y", 3)], false, true),
            (&[("RUN x", 2), ("RUN y", 3)], true, false),
            (&[("RUN trigger", 1)], true, true),
            (&[("FROM a", 1)], false, false),
        ] {
            let steps = Steps::new(&Silent);
            for (number, (command, line)) in commands.iter().enumerate() {
                started(&steps, number, command, *line, "linux/amd64");
            }
            let list = steps.of(&"linux/amd64".parse().expect("a platform"));
            assert_eq!(list.reach_network(&file, offline), reach, "{commands:?} {offline}");
        }
    }
}

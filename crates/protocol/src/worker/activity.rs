//! A request's events as activities of the client's logger.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use super::{Field, StderrMessage, Version};
use crate::LogEvent;
use crate::wire::Encoder;

const INFO: u64 = 3;
const BUILDS: u64 = 104;
const WARN: u64 = 1;
const UNKNOWN: u64 = 0;
const BUILD: u64 = 105;
const BUILD_WAITING: u64 = 111;
const BUILD_LOG_LINE: u64 = 101;
const SET_PHASE: u64 = 104;
const PROGRESS: u64 = 105;

/// Gives builds their activity numbers, unique for the client: it may talk to several servers at once.
#[derive(Debug)]
pub(crate) struct Activities {
    version: Version,
    next: u64,
    /// Activities of the current request by the number of the build in it.
    running: BTreeMap<u64, u64>,
    /// The activity that stands for all builds of the current request.
    builds: Option<u64>,
    /// Likewise, of those that wait.
    waiting: BTreeMap<u64, u64>,
    /// Builds of the current request of which it was said that they wait.
    told: BTreeSet<u64>,
}

impl Activities {
    pub(crate) fn new(version: Version, base: Option<u64>) -> Self {
        let random = || RandomState::new().build_hasher().finish() & !0xffff_ffff;
        Self {
            version,
            next: base.unwrap_or_else(random),
            running: BTreeMap::new(),
            builds: None,
            waiting: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Writes what the event means for the client. Events of builds that are not running mean nothing.
    pub(crate) fn render(&mut self, event: LogEvent, out: &mut Encoder) {
        if !self.version.has_activities() {
            let mut line = match event {
                LogEvent::Message(text) => text.into_bytes(),
                LogEvent::BuildLine { line, .. } => line,
                _ => return,
            };
            line.push(b'\n');
            StderrMessage::Next(line).encode(self.version, out);
            return;
        }
        if let LogEvent::Progress { .. } = event
            && self.builds.is_none()
        {
            self.start_builds().encode(self.version, out);
        }
        match event {
            LogEvent::Waiting { id, .. } | LogEvent::WaitingEnded { id } | LogEvent::BuildStopped { id } => {
                if let Some(activity) = self.waiting.remove(&id) {
                    StderrMessage::StopActivity(activity).encode(self.version, out);
                }
            }
            _ => {}
        }
        if let Some(message) = self.message(event) {
            message.encode(self.version, out);
        }
    }

    /// Stops what the request left running.
    pub(crate) fn finish(&mut self, out: &mut Encoder) {
        self.told.clear();
        let waiting = std::mem::take(&mut self.waiting).into_values();
        let running = std::mem::take(&mut self.running).into_values();
        for activity in waiting.chain(running).chain(self.builds.take()) {
            StderrMessage::StopActivity(activity).encode(self.version, out);
        }
    }

    fn start_builds(&mut self) -> StderrMessage {
        let id = self.next;
        self.next += 1;
        self.builds = Some(id);
        StderrMessage::StartActivity {
            id,
            level: INFO,
            kind: BUILDS,
            text: Vec::new(),
            fields: Vec::new(),
            parent: 0,
        }
    }

    fn message(&mut self, event: LogEvent) -> Option<StderrMessage> {
        let result = |activity: Option<&u64>, kind, text: Vec<u8>| {
            activity.map(|&id| StderrMessage::Result {
                id,
                kind,
                fields: vec![Field::Text(text)],
            })
        };
        match event {
            LogEvent::Message(text) => Some(StderrMessage::Next(format!("{text}\n").into_bytes())),
            LogEvent::BuildStarted { id, drv_path, doing } => {
                let activity = self.next;
                self.next += 1;
                self.running.insert(id, activity);
                let text = doing.shown(&drv_path).into_bytes();
                let drv_path = drv_path.to_string();
                Some(StderrMessage::StartActivity {
                    id: activity,
                    level: INFO,
                    kind: BUILD,
                    text,
                    fields: vec![
                        Field::Text(drv_path.into_bytes()),
                        Field::Text(Vec::new()),
                        Field::Int(1),
                        Field::Int(1),
                    ],
                    parent: 0,
                })
            }
            LogEvent::Waiting { id, text } => {
                let parent = *self.running.get(&id)?;
                let activity = self.next;
                self.next += 1;
                self.waiting.insert(id, activity);
                // Nix's `nix` shows waiting in its progress bar only, and without a terminal it has none.
                let kind = match self.told.insert(id) {
                    true => UNKNOWN,
                    false => BUILD_WAITING,
                };
                Some(StderrMessage::StartActivity {
                    id: activity,
                    level: WARN,
                    kind,
                    text: text.into_bytes(),
                    fields: Vec::new(),
                    parent,
                })
            }
            LogEvent::WaitingEnded { .. } => None,
            LogEvent::BuildLine { id, line } => result(self.running.get(&id), BUILD_LOG_LINE, line),
            LogEvent::BuildPhase { id, phase } => {
                result(self.running.get(&id), SET_PHASE, phase.into_bytes())
            }
            LogEvent::Progress {
                done,
                expected,
                running,
                failed,
            } => self.builds.map(|id| StderrMessage::Result {
                id,
                kind: PROGRESS,
                fields: [done, expected, running, failed].map(Field::Int).to_vec(),
            }),
            LogEvent::BuildStopped { id } => self.running.remove(&id).map(StderrMessage::StopActivity),
        }
    }
}

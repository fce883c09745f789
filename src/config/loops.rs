//! Loops and who calls: how `[loops]`, `[attribution]` and `[[agent]]` are read and written.

use std::fmt::{self, Write};
use std::time::Duration;

use toml::de::DeValue;
use wildmatch::WildMatch;

use super::read::Section;
use super::render::quoted;
use super::value::{self, Kind, duration_text, limit_text};
use crate::core::id::Label;
use crate::core::loops::guard::Policy;
use crate::core::loops::limits::RunLimits;
use crate::core::loops::settings::{Mode, Preset, Settings, Threshold, ToolTraits};

const MAX_COUNT: u64 = 1_000_000;
const MAX_DELAY: Duration = Duration::from_secs(30);
const MAX_COOL_DOWN: Duration = Duration::from_secs(3600);

const PRESET: Kind<Preset> = Kind::new(
    "\"observe\", \"cautious\" or \"balanced\"",
    "\"balanced\"",
    |value| value.as_str()?.parse().ok(),
);

const MODE: Kind<Mode> = Kind::new(
    "\"off\", \"observe\", \"slow\" or \"break\"",
    "\"break\"",
    |value| value.as_str()?.parse().ok(),
);

const TIMES: Kind<u32> = Kind::new(
    "a whole number from 0 to 1000000, where 0 is never",
    "5",
    times,
);

const MOST: Kind<Option<u32>> = Kind::new(
    "a whole number from 1 to 1000000, or \"unlimited\"",
    "500",
    |value| match value.as_str() {
        Some("unlimited") => Some(None),
        _ => times(value).filter(|most| *most > 0).map(Some),
    },
);

const NAME: Kind<Label> = Kind::new(
    "a name of up to 256 bytes without control characters",
    "\"planner\"",
    |value| Label::parse(value.as_str()?).ok(),
);

const AGENT: Kind<WildMatch> = glob("\"research*\"");
const PROMPT: Kind<WildMatch> = glob("\"*You plan trips*\"");
const TOOL: Kind<WildMatch> = glob("\"get_job*\"");

const fn glob(example: &'static str) -> Kind<WildMatch> {
    Kind::new(
        "a text in which * and ? are wildcards",
        example,
        value::GLOB.parse,
    )
}

const DELAY: Kind<Duration> = Kind::new("a duration up to \"30s\"", "\"4s\"", |value| {
    (value::DURATION_OR_ZERO.parse)(value).filter(|delay| *delay <= MAX_DELAY)
});

const COOL_DOWN: Kind<Duration> = Kind::new(
    "a duration above zero and up to \"1h\"",
    "\"5m\"",
    |value| (value::DURATION.parse)(value).filter(|time| *time <= MAX_COOL_DOWN),
);

fn times(value: &DeValue<'_>) -> Option<u32> {
    let times = value::integer(value).filter(|times| *times <= MAX_COUNT)?;
    u32::try_from(times).ok()
}

/// Who calls, where nobody says so.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributionConfig {
    pub infer: bool,
    /// Names for agents that nobody named; the first that matches counts.
    pub agents: Vec<AgentRule>,
}

/// A name for an agent that is told by its prompt, or by the name it was given by inference.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRule {
    pub name: Label,
    pub prompt: Option<WildMatch>,
    pub inferred: Option<WildMatch>,
}

/// What is watched for, and what is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopsConfig {
    /// Runs that are watched at once; of more, those that were not used for longest are let go.
    pub max_runs: usize,
    pub policy: Policy,
    /// By globs of agents; the first that matches counts.
    pub agents: Vec<(WildMatch, Policy)>,
    pub tools: Vec<ToolRule>,
}

/// What is otherwise for some tools.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolRule {
    pub name: WildMatch,
    pub traits: ToolTraits,
}

impl ToolRule {
    pub fn matches(&self, tool: &str) -> bool {
        self.name.matches(tool)
    }
}

impl LoopsConfig {
    pub fn policy_for(&self, agent: &Label) -> &Policy {
        let own = self
            .agents
            .iter()
            .find(|(glob, _)| glob.matches(agent.as_str()));
        own.map_or(&self.policy, |(_, policy)| policy)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn attribution(root: &mut Section<'_, '_>) -> AttributionConfig {
    let mut config = AttributionConfig::default();
    root.table("attribution", |section| {
        section.set("infer", &value::BOOL, &mut config.infer);
    });
    config.agents = root
        .tables("agent", |_, section| {
            let name = section.demand("name", &NAME);
            let prompt = section.get("prompt", &PROMPT);
            let inferred = section.get("inferred", &AGENT);
            if prompt.is_none()
                && inferred.is_none()
                && !section.has("prompt")
                && !section.has("inferred")
            {
                section.problem(
                    "prompt",
                    "a glob of the agent's prompt, or inferred = a glob of the \
                            name that was inferred for it",
                    "\"*You plan trips*\"",
                );
            }
            Some(AgentRule {
                name: name?,
                prompt,
                inferred,
            })
        })
        .into_iter()
        .flatten()
        .collect();
    config
}

pub(super) fn read(root: &mut Section<'_, '_>) -> LoopsConfig {
    let mut config = LoopsConfig::default();
    root.table("loops", |section| {
        section.set("max_runs", &value::COUNT, &mut config.max_runs);
        policy(section, &mut config.policy);
        let base = config.policy.clone();
        let agents = section.tables("agent", |_, section| {
            let name = section.demand("match", &AGENT);
            let mut own = base.clone();
            policy(section, &mut own);
            Some((name?, own))
        });
        config.agents = agents.into_iter().flatten().collect();
        let tools = section.tables("tool", |_, section| {
            let name = section.demand("match", &TOOL);
            let polls = section.get("poll", &value::BOOL);
            let repeats = section.get("repeats", &TIMES);
            Some(ToolRule {
                name: name?,
                traits: ToolTraits { polls, repeats },
            })
        });
        config.tools = tools.into_iter().flatten().collect();
    });
    config
}

fn policy(section: &mut Section<'_, '_>, policy: &mut Policy) {
    if let Some(preset) = section.get("preset", &PRESET) {
        policy.settings = Settings::preset(preset);
    }
    let settings = &mut policy.settings;
    section.set("mode", &MODE, &mut settings.mode);
    for (name, threshold) in thresholds(settings) {
        section.table(name, |section| {
            section.set("warn", &TIMES, &mut threshold.warn);
            section.set("trip", &TIMES, &mut threshold.trip);
            if threshold.trip > 0 && threshold.warn > threshold.trip {
                section.problem("warn", "no more than trip", "3");
            }
        });
    }
    section.set("stale_in_circle", &TIMES, &mut settings.stale_in_circle);
    section.set("stale_poll", &TIMES, &mut settings.stale_poll);
    let limits = &mut policy.limits;
    section.set("max_depth", &MOST, &mut limits.max_depth);
    section.set("max_fan_out", &MOST, &mut limits.max_fan_out);
    section.set("max_calls_per_run", &MOST, &mut limits.max_calls);
    section.set(
        "max_calls_per_minute",
        &MOST,
        &mut limits.max_calls_per_minute,
    );
    if let Some(delay) = section.get("max_delay", &DELAY) {
        policy.max_delay_ms = millis(delay);
    }
    if let Some(cool_down) = section.get("cool_down", &COOL_DOWN) {
        policy.cool_down_us = millis(cool_down) * 1000;
    }
}

fn thresholds(settings: &mut Settings) -> [(&'static str, &mut Threshold); 8] {
    [
        ("repeat", &mut settings.repeat),
        ("period", &mut settings.period),
        ("stale", &mut settings.stale),
        ("same_error", &mut settings.same_error),
        ("same_request", &mut settings.same_request),
        ("same_answer", &mut settings.same_answer),
        ("delegation", &mut settings.delegation),
        ("chant", &mut settings.chant),
    ]
}

pub(super) fn write(
    f: &mut impl Write,
    attribution: &AttributionConfig,
    loops: &LoopsConfig,
) -> fmt::Result {
    writeln!(f, "\n[attribution]\ninfer = {}", attribution.infer)?;
    writeln!(f, "\n[loops]\nmax_runs = {}", loops.max_runs)?;
    write_policy(f, &loops.policy)?;
    for (name, policy) in &loops.agents {
        writeln!(f, "\n[[loops.agent]]\nmatch = {}", quoted(name))?;
        write_policy(f, policy)?;
    }
    for tool in &loops.tools {
        writeln!(f, "\n[[loops.tool]]\nmatch = {}", quoted(&tool.name))?;
        if let Some(polls) = tool.traits.polls {
            writeln!(f, "poll = {polls}")?;
        }
        if let Some(repeats) = tool.traits.repeats {
            writeln!(f, "repeats = {repeats}")?;
        }
    }
    for agent in &attribution.agents {
        writeln!(f, "\n[[agent]]\nname = {}", quoted(&agent.name))?;
        if let Some(prompt) = &agent.prompt {
            writeln!(f, "prompt = {}", quoted(prompt))?;
        }
        if let Some(inferred) = &agent.inferred {
            writeln!(f, "inferred = {}", quoted(inferred))?;
        }
    }
    Ok(())
}

fn write_policy(f: &mut impl Write, policy: &Policy) -> fmt::Result {
    let mut settings = policy.settings.clone();
    let mode: &'static str = settings.mode.into();
    writeln!(f, "mode = {}", quoted(mode))?;
    for (name, Threshold { warn, trip }) in thresholds(&mut settings) {
        writeln!(f, "{name} = {{ warn = {warn}, trip = {trip} }}")?;
    }
    writeln!(f, "stale_in_circle = {}", settings.stale_in_circle)?;
    writeln!(f, "stale_poll = {}", settings.stale_poll)?;
    let RunLimits {
        max_depth,
        max_fan_out,
        max_calls,
        max_calls_per_minute,
    } = policy.limits;
    for (name, limit) in [
        ("max_depth", max_depth),
        ("max_fan_out", max_fan_out),
        ("max_calls_per_run", max_calls),
        ("max_calls_per_minute", max_calls_per_minute),
    ] {
        let text = limit.map_or_else(
            || quoted(limit_text(None::<u32>, |most| most.to_string())),
            |most| most.to_string(),
        );
        writeln!(f, "{name} = {text}")?;
    }
    let delay = Duration::from_millis(policy.max_delay_ms);
    let cool_down = Duration::from_micros(policy.cool_down_us);
    writeln!(f, "max_delay = {}", quoted(duration_text(delay)))?;
    writeln!(f, "cool_down = {}", quoted(duration_text(cool_down)))
}

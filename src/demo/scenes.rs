//! The four scenes: two that must go through, two that must be stopped.

use super::agent::{Answer, CallError, Heard, Run};
use super::texts;

/// More than any scene takes before it is stopped, if it is.
const PATIENCE: usize = 40;

/// A better model for who decides, a cheaper one for who works.
const DECIDES: &str = "gpt-5";
const WORKS: &str = "gpt-5-mini";

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Scene {
    /// A planner, a researcher and a writer at work.
    Crew,
    /// Two agents hand a task back and forth.
    Pingpong,
    /// A job that costs more than its run may spend.
    Overrun,
    /// Somebody who waits for something, and asks again and again.
    Poll,
}

/// How a scene ended.
pub(super) struct Ended {
    pub(super) as_expected: bool,
    pub(super) told: String,
}

impl Scene {
    pub const ALL: [Self; 4] = [Self::Crew, Self::Pingpong, Self::Overrun, Self::Poll];

    pub(super) fn name(self) -> &'static str {
        self.into()
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Crew => "A healthy crew: planner, researcher and writer make a report",
            Self::Pingpong => "A ping-pong: editor and critic hand one text back and forth",
            Self::Overrun => "A budget overrun: forty documents, money for a few",
            Self::Poll => "A poll: the same question again and again, but the answer moves",
        }
    }

    pub(super) fn watch(self) -> &'static str {
        match self {
            Self::Crew => "Watch the call graph grow. Nobody is stopped.",
            Self::Pingpong => "Watch the loop be noticed, slowed and stopped.",
            Self::Overrun => "Watch the budget fill, calls slow down, and the rest be refused.",
            Self::Poll => "Watch that nothing happens: waiting is no loop.",
        }
    }

    pub(super) async fn play(self, run: &Run) -> Result<Ended, CallError> {
        match self {
            Self::Crew => crew(run).await,
            Self::Pingpong => pingpong(run).await,
            Self::Overrun => overrun(run).await,
            Self::Poll => poll(run).await,
        }
    }
}

fn stopped_wrongly(said: &str) -> Ended {
    Ended {
        as_expected: false,
        told: format!("it was stopped, and should not have been: {said}"),
    }
}

fn never_stopped(calls: usize) -> Ended {
    Ended {
        as_expected: false,
        told: format!("it went on for {calls} calls, and should have been stopped"),
    }
}

fn through(told: String) -> Ended {
    Ended {
        as_expected: true,
        told,
    }
}

/// What an agent says when it hears `text`, or why the scene ends here.
macro_rules! heard {
    ($said:expr) => {
        match $said.await? {
            Heard::Answer(answer) => answer,
            Heard::Refused(said) => return Ok(stopped_wrongly(&said)),
        }
    };
}

async fn crew(run: &Run) -> Result<Ended, CallError> {
    let mut planner = run.agent("planner", DECIDES);
    let mut answer = heard!(planner.hears("Write me a report of one page on tidal power."));
    let mut calls = 1;
    while let Some(tool) = answer.tool.clone() {
        let task = tool.argument("task");
        let result = if tool.name == "ask_writer" {
            calls += 1;
            heard!(run.agent("writer", WORKS).hears(&task)).text
        } else {
            let mut researcher = run.agent("researcher", WORKS);
            let mut said: Answer = heard!(researcher.hears(&task));
            calls += 1;
            while let Some(look) = said.tool.clone() {
                let asked = look.argument("query") + &look.argument("url");
                said = heard!(researcher.gets(&look, &texts::page(&look.name, &asked)));
                calls += 1;
            }
            said.text
        };
        answer = heard!(planner.gets(&tool, &result));
        calls += 1;
    }
    Ok(through(format!(
        "{calls} calls, the report is written, nobody was stopped"
    )))
}

async fn pingpong(run: &Run) -> Result<Ended, CallError> {
    let mut editor = run.agent("editor", WORKS);
    let mut critic = run.agent("critic", WORKS);
    let mut text = "Advertise our new kettle in three sentences.".to_owned();
    for calls in 0..PATIENCE {
        let speaker = if calls % 2 == 0 {
            &mut editor
        } else {
            &mut critic
        };
        match speaker.hears(&text).await? {
            Heard::Answer(answer) => text = answer.text,
            Heard::Refused(said) => {
                return Ok(through(format!("stopped after {calls} calls. {said}")));
            }
        }
    }
    Ok(never_stopped(PATIENCE))
}

async fn overrun(run: &Run) -> Result<Ended, CallError> {
    for number in 0..PATIENCE {
        let mut summarizer = run.agent("summarizer", DECIDES);
        let document = texts::document(number + 1);
        if let Heard::Refused(said) = summarizer.hears(&document).await? {
            return Ok(through(format!("stopped after {number} documents. {said}")));
        }
    }
    Ok(never_stopped(PATIENCE))
}

async fn poll(run: &Run) -> Result<Ended, CallError> {
    let mut deployer = run.agent("deployer", WORKS);
    let mut answer =
        heard!(deployer.hears("Roll out version 2.4 of checkout, and tell me when it is done."));
    let mut looked = 0;
    while let Some(tool) = answer.tool.clone() {
        looked += 1;
        answer = heard!(deployer.gets(&tool, &texts::rollout(looked)));
    }
    Ok(through(format!(
        "looked {looked} times, until it was done; nobody was stopped"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_has_a_name_of_its_own_that_reads_back() {
        for scene in Scene::ALL {
            assert_eq!(scene.name().parse(), Ok(scene));
        }
    }
}

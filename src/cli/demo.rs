//! `open-aiops demo`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames;
use tokio::runtime::Builder;

use super::table::Output;
use super::{Common, Failure, source};
use crate::demo::{self, DemoError, Options, Scene};

pub(super) const NOTE: &str = "\
Scenes: crew (a healthy team), pingpong (a loop, stopped), overrun (a budget, spent), poll (waiting, never
stopped). The dashboard is at http://127.0.0.1:8788/ if that port is free; its address is printed.
The exit code is 1 when a scene did not go as it should.

Examples:
  open-aiops demo
  open-aiops demo --scene pingpong --once
  open-aiops demo --dir demo-data --repeat";

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct DemoArgs {
    /// Only this scene; may be given several times
    #[arg(long, value_parser = scene())]
    pub scene: Vec<Scene>,
    /// The model answers at once
    #[arg(long)]
    pub fast: bool,
    /// End after the scenes, do not wait for ctrl-c
    #[arg(long, conflicts_with = "repeat")]
    pub once: bool,
    /// Play the scenes over and over, until ctrl-c
    #[arg(long)]
    pub repeat: bool,
    /// Name runs by this number and count up, instead of by the time
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u16>,
    /// Print the configuration it runs with, and end
    #[arg(long)]
    pub print_config: bool,
}

fn scene() -> impl TypedValueParser<Value = Scene> {
    PossibleValuesParser::new(Scene::VARIANTS).try_map(|word| word.parse::<Scene>())
}

pub(super) fn run(common: &Common, args: &DemoArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    if common.config.is_some() || common.json {
        let told =
            "demo has a configuration of its own and prints no JSON: leave --config and --json out";
        return Err(Failure::Impossible(told.to_owned()));
    }
    if args.print_config {
        let dir = common.dir.as_ref().map(|dir| dir.to_string_lossy());
        let dir = dir.as_deref().unwrap_or("open-aiops-demo");
        let text = demo::config_text("127.0.0.1:9000", dir, [8787, 8788]);
        return Ok(write!(out.writer, "{text}")?);
    }
    let scenes = if args.scene.is_empty() {
        Scene::ALL.to_vec()
    } else {
        args.scene.clone()
    };
    let options = Options {
        scenes,
        fast: args.fast,
        repeat: args.repeat,
        once: args.once,
        dir: common.dir.clone(),
        seed: args.seed,
    };
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(source::impossible)?;
    match runtime.block_on(demo::play(&options, out.writer)) {
        Ok(()) => Ok(()),
        Err(DemoError::Output(error)) => Err(Failure::Output(error)),
        Err(error @ DemoError::Unexpected(_)) => Err(Failure::Negative(error.to_string())),
        Err(error) => Err(source::impossible(error)),
    }
}

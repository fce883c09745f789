//! What the program says of itself to shells, to `man` and to those who watch over it: all of it made
//! from the commands as they are, so that it cannot be of another version.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::source::Source;
use super::table::Output;
use super::{Cli, Common, Failure, command};
use crate::core::build;
use crate::ledger;

const NAME: &str = "open-aiops";
/// Scripts for bash find no command of a program with a hyphen in its name: so it is made for this one.
const NAME_IN_BASH: &str = "open_aiops";

pub(super) const COMPLETIONS_NOTE: &str = "\
Examples:
  open-aiops completions bash > /etc/bash_completion.d/open-aiops
  open-aiops completions zsh > \"${fpath[1]}/_open-aiops\"
  open-aiops completions fish > ~/.config/fish/completions/open-aiops.fish";

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub(super) const MAN_NOTE: &str = "\
Examples:
  open-aiops man | man -l -
  open-aiops man budgets raise | man -l -
  open-aiops man --out /usr/local/share/man/man1";

#[derive(Args, Debug)]
pub struct ManArgs {
    /// Of this command; of the program when not given
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,
    /// Write the pages of the program and of all its commands into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub(super) const HEALTH_NOTE: &str = "\
The server is the one that runs on the ledger of this configuration; no token is needed. The exit code
is 0 when it is, 1 when it is not or none runs.";

#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Whether it lives, though it may be ending or unable to record
    #[arg(long)]
    pub live: bool,
}

pub(super) fn completions(args: &CompletionsArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    let name = if args.shell == Shell::Bash {
        NAME_IN_BASH
    } else {
        NAME
    };
    clap_complete::generate(args.shell, &mut Cli::command(), name, &mut script);
    let script = String::from_utf8_lossy(&script);
    let script = script.replace(&format!(" {NAME_IN_BASH}\n"), &format!(" {NAME}\n"));
    Ok(out.writer.write_all(script.as_bytes())?)
}

pub(super) fn man(args: &ManArgs, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut program = built();
    if let Some(dir) = &args.out {
        return Ok(write_pages(&program, dir)?);
    }
    for name in &args.command {
        let found = program.find_subcommand(name).cloned();
        program = found.ok_or_else(|| {
            let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
            let of = program.get_bin_name().unwrap_or(NAME);
            Failure::Impossible(if names.is_empty() {
                format!("{of} has no command {name:?}, and no others")
            } else {
                let known = names.join(", ");
                format!("{of} has no command {name:?}, expected one of {known}")
            })
        })?;
    }
    Ok(out.writer.write_all(&page(&program)?)?)
}

/// With what every command has in common, as help shows it; what `help` itself takes needs no page.
fn built() -> Command {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    program
}

/// A page for the program, and one for each command, down to the last.
fn write_pages(program: &Command, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut left = vec![program.clone()];
    while let Some(of) = left.pop() {
        let page = page(&of)?;
        std::fs::write(dir.join(format!("{}.1", title(&of))), page)?;
        left.extend(of.get_subcommands().cloned());
    }
    Ok(())
}

/// `open-aiops-budgets-raise`.
fn title(of: &Command) -> String {
    of.get_bin_name().unwrap_or(NAME).replace(' ', "-")
}

fn page(of: &Command) -> io::Result<Vec<u8>> {
    let title = title(of);
    let mut page = Vec::new();
    Man::new(of.clone())
        .title(title)
        // Not left out, or what follows would be taken for it.
        .date(" ")
        .source(format!("{NAME} {}", build::VERSION))
        .manual("Open-AIOps")
        .render(&mut page)?;
    Ok(page)
}

pub(super) fn health(
    common: &Common,
    args: &HealthArgs,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    // Whatever the reason is: to those who watch over containers 1 says ill, and 2 says nothing.
    let ill = |failure: Failure| Failure::Negative(failure.words());
    let dir = command::ledger_dir(common).map_err(ill)?;
    let Some(address) = ledger::running_server(&dir) else {
        let none = format!("no server runs on {}", dir.display());
        return Err(Failure::Negative(none));
    };
    let runtime = command::runtime().map_err(ill)?;
    let answer = runtime.block_on(ask(common, address, args.live));
    let answer = answer.map_err(ill)?;
    Ok(writeln!(out.writer, "{answer}")?)
}

async fn ask(common: &Common, address: SocketAddr, live: bool) -> Result<String, Failure> {
    let path = if live { "/healthz" } else { "/readyz" };
    let source = Source::server(common, address)?;
    let body = source.ask(path, &()).await?;
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &Command, found: &mut Vec<String>) {
        found.push(title(of));
        of.get_subcommands().for_each(|it| names(it, found));
    }

    #[test]
    fn completions_of_every_shell_know_every_command() {
        use clap::ValueEnum as _;

        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            let mut out = Output {
                writer: &mut script,
                terminal: false,
            };
            completions(&CompletionsArgs { shell: *shell }, &mut out).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let dir = tempfile::tempdir().unwrap();
        write_pages(&built(), dir.path()).unwrap();
        let mut expected = Vec::new();
        names(&built(), &mut expected);
        assert!(expected.contains(&"open-aiops-budgets-raise".to_owned()));
        for name in &expected {
            let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(&format!(".TH {name} 1 ")), "{page}");
            assert!(page.contains("\\-\\-config"), "{name}");
        }
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, expected.len(), "and no others");
    }

    #[test]
    fn pages_of_commands_that_there_are_not_say_which_there_are() {
        let asked = |names: &[&str]| {
            let args = ManArgs {
                command: names.iter().map(ToString::to_string).collect(),
                out: None,
            };
            let mut page = Vec::new();
            let mut out = Output {
                writer: &mut page,
                terminal: false,
            };
            man(&args, &mut out).map_err(|failure| failure.words())
        };
        assert!(asked(&["budgets", "raise"]).is_ok());
        assert_eq!(
            asked(&["budgets", "rise"]).unwrap_err(),
            "open-aiops budgets has no command \"rise\", expected one of raise, reset"
        );
        assert_eq!(
            asked(&["calls", "all"]).unwrap_err(),
            "open-aiops calls has no command \"all\", and no others"
        );
    }
}

//! `tradewind completion SHELL`

use clap_complete::Shell;

use crate::{cli, failure::Failure, terminal};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind completion bash > ~/.local/share/bash-completion/completions/tradewind
  tradewind completion fish > ~/.config/fish/completions/tradewind.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "tradewind", &mut script);
    terminal::print_bytes(&script)
}

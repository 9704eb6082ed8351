"""`harness completion`: shell completion of commands, options and their values."""

from __future__ import annotations

import click

from harness.cli.endings import Ending
from harness.cli.output import write_text

SHELLS = ("bash", "zsh", "fish")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
      source <(harness completion bash)                                 in ~/.bashrc
      source <(harness completion zsh)                                  in ~/.zshrc
      harness completion fish > ~/.config/fish/completions/harness.fish
    """
    from click.shell_completion import get_completion_class

    from harness.cli import main

    made = get_completion_class(shell)
    if made is None:
        raise Ending(f"this version of click has no completion for {shell}", 1)
    complete = made(main, {}, "harness", "_HARNESS_COMPLETE")
    write_text(complete.source_template % complete.source_vars() + "\n", "-")

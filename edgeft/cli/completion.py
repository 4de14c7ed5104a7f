"""`edgeft completion`: completion scripts made from the parsers themselves."""

from __future__ import annotations

import argparse

HELP = "Print the shell completion script"
DESCRIPTION = "Print a completion script for bash, zsh or fish; it is made from the commands' own parsers."
EPILOG = """examples:
  source <(edgeft completion bash)                         this shell
  edgeft completion zsh > ~/.zfunc/_edgeft                 zsh, with fpath+=~/.zfunc
  edgeft completion fish > ~/.config/fish/completions/edgeft.fish
"""
SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `completion`."""
    parser.add_argument("shell", choices=SHELLS, help="which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    render = {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell]
    print(render(_words()))
    return 0


def _words() -> dict[str, list[str]]:
    """Command -> its long options."""
    from importlib import import_module

    from edgeft.cli import COMMANDS, command_parser

    found = {}
    for command in COMMANDS:
        parser = command_parser(command, import_module(f"edgeft.cli.{command}"))
        found[command] = sorted(word for word in parser._option_string_actions if word.startswith("--"))
    return found


def _bash(words: dict[str, list[str]]) -> str:
    cases = "\n".join(f"    {command}) options='{' '.join(options)}' ;;" for command, options in words.items())
    return f"""_edgeft() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} options=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{" ".join(words)} --help --version' -- "$current"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _edgeft edgeft"""


def _zsh(words: dict[str, list[str]]) -> str:
    return f"#compdef edgeft\nautoload -U +X bashcompinit && bashcompinit\n{_bash(words)}"


def _fish(words: dict[str, list[str]]) -> str:
    from edgeft.cli import COMMANDS

    lines = ["complete -c edgeft -n __fish_use_subcommand -f"]
    for command, options in words.items():
        text = COMMANDS[command].replace("'", "\\'")
        lines.append(f"complete -c edgeft -n __fish_use_subcommand -a {command} -d '{text}'")
        lines += [
            f"complete -c edgeft -n '__fish_seen_subcommand_from {command}' -l {option[2:]}" for option in options
        ]
    return "\n".join(lines)

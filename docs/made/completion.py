"""Bash completion from the commands' own parsers: what `generate.py` writes into etc/bdserver.bash-completion."""

from __future__ import annotations

import argparse
from types import ModuleType

HEAD = """\
# bash completion for BDserver's commands; made from their parsers by `make generate`.
# Services, node names and addresses are those that the local node knows (bdctl --json nodes).

_bdserver_known() { # of the local node: services, names or addresses
    bdctl --timeout 1 --json "${2:-nodes}" 2> /dev/null | python3 -c '
import json, sys
try:
    known = json.load(sys.stdin)
except ValueError:
    sys.exit()
print(*(known if sys.argv[1] == "services" else (each[sys.argv[1]] for each in known if each[sys.argv[1]])))' "$1"
}

_bdserver() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]##*/} sub='' each
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$program $each" in
            %(subcommands)s) sub=$each && break ;;
        esac
    done
    COMPREPLY=()
    case "$previous" in
        %(files)s) COMPREPLY=($(compgen -f -- "$word")) && return ;;
        %(folders)s) COMPREPLY=($(compgen -d -- "$word")) && return ;;
        --node) COMPREPLY=($(compgen -W "$(_bdserver_known address)" -- "$word")) && return ;;
        --role) COMPREPLY=($(compgen -W "node client admin" -- "$word")) && return ;;
        --mode) COMPREPLY=($(compgen -W "lax strict" -- "$word")) && return ;;
        --health) COMPREPLY=($(compgen -W "none tcp http" -- "$word")) && return ;;
    esac
    case "$program $sub" in
"""
TAIL = """\
    esac
}

complete -F _bdserver %(programs)s
"""
# Metavars whose values are files, folders, or what the local node knows.
FILES = ("FILE", "CONFIG", "PATH", "FILE.csr", "WS_POLICY", "BLACK_LIST", "A", "B", "DIR/NAME")
FOLDERS = ("DIR",)
KNOWN = {"SERVICE": "services services", "ADDR": "address", "NAME|ADDR": "name"}


def text(modules: dict[str, ModuleType]) -> str:
    """The whole file; `modules`: program -> its command's module."""
    parsers = {program: module._parser() for program, module in modules.items()}
    subs = {program: subparsers(parser) for program, parser in parsers.items()}
    everything = [*parsers.values(), *(sub for each in subs.values() for sub in each.values())]
    parts = {
        "subcommands": " | ".join(f'"{program} {sub}"' for program, each in subs.items() for sub in each),
        "files": _options(everything, FILES),
        "folders": _options(everything, FOLDERS),
        "programs": " ".join(modules),
    }
    cases = []
    for program, parser in parsers.items():
        cases.append(_case(f"{program} ", parser, list(subs[program])))
        cases += [_case(f"{program} {name}", sub, []) for name, sub in subs[program].items()]
    return HEAD % parts + "".join(cases) + TAIL % parts


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """name -> parser of each subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parsers: list[argparse.ArgumentParser], metavars: tuple[str, ...]) -> str:
    """The options that take such a value."""
    found = {
        option
        for parser in parsers
        for action in parser._actions
        if action.metavar in metavars
        for option in action.option_strings
    }
    return " | ".join(sorted(found))


def _case(words: str, parser: argparse.ArgumentParser, subcommands: list[str]) -> str:
    """What may stand next."""
    options = sorted(option for action in parser._actions for option in action.option_strings if option.startswith("--"))
    choices = subcommands + [str(each) for action in _positionals(parser) if action.choices for each in action.choices]
    metavars = {str(action.metavar) for action in _positionals(parser)}
    lines = [f'COMPREPLY=($(compgen -W "{" ".join(choices + options)}" -- "$word"))']
    for metavar, known in KNOWN.items():
        if metavar in metavars:
            lines.append(f'COMPREPLY+=($(compgen -W "$(_bdserver_known {known})" -- "$word"))')
    if metavars & set(FILES):
        lines.append('COMPREPLY+=($(compgen -f -- "$word"))')
    if metavars & set(FOLDERS):
        lines.append('COMPREPLY+=($(compgen -d -- "$word"))')
    body = "\n".join(f"            {line}" for line in lines)
    return f'        "{words}")\n{body}\n            ;;\n'


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]

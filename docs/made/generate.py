"""Writes what is made from the program's own tables, so that it cannot differ from them.

    python -m docs.made.generate           write
    python -m docs.made.generate --check   write nothing; exit 1 and name the files that would change

The samples in etc/ are made whole. In docs/*.md and docs/man/* the made parts stand between two comments,
`made by make generate: PART` and `end`; the rest of those files is written by hand.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator

from bdserver import __version__, errors
from bdserver.audit import config as audit_config
from bdserver.commands import bdctl, bddemo, bdgateway, bdkeys, bdserverd, bdwhereis
from bdserver.core import exchange, fields, membership, messages, urls, wire
from bdserver.files import parcels, settings
from bdserver.gateway import config as gateway_config
from bdserver.processes import callers, tellers
from docs.made import completion, dashboard

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMANDS = {
    "bdserverd": bdserverd,
    "bdwhereis": bdwhereis,
    "bdctl": bdctl,
    "bdkeys": bdkeys,
    "bdgateway": bdgateway,
    "bddemo": bddemo,
}
# When the man pages were last read through as a whole; not that of a build, which must not change them.
MANUAL_DATE = "2026-11-24"
MARKED = re.compile(
    r"(?P<open>(?:<!--|\.\\\") made by make generate: (?P<part>[a-z ]+?)(?: -->)?\n)"
    r".*?"
    r"(?P<close>(?:<!--|\.\\\") end(?: -->)?\n)",
    re.DOTALL,
)


def files() -> dict[str, str]:
    """path from the root -> the text that it should have, of every file that holds something made."""
    made = {
        os.path.join("etc", "bdserverd.conf.sample"): settings.sample(),
        os.path.join("etc", "audit.conf.sample"): audit_config.sample(),
        os.path.join("etc", "gateway.conf.sample"): gateway_config.sample(),
        os.path.join("etc", "bdserver-grafana.json"): dashboard.text(),
        os.path.join("etc", "bdserver.bash-completion"): completion.text(COMMANDS),
    }
    for folder in ("docs", os.path.join("docs", "man")):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(ROOT, path)) and MARKED.search(text := _read(path)):
                made[path] = MARKED.sub(_filled, text)
    return made


def outdated() -> dict[str, str]:
    """Those of `files` whose text on disk is another."""
    return {path: text for path, text in files().items() if _read(path) != text}


def _read(path: str) -> str:
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _filled(match: re.Match) -> str:
    return match["open"] + PARTS[match["part"]]() + match["close"]


# --- Markdown -----------------------------------------------------------------------------------------------------


def _table(heads: list[str], rows: list) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [heads, ["---"] * len(heads), *rows]]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def requests_table() -> str:
    """The table of requests: who may send what, and to which port."""

    def words(argument) -> str:
        return f"`{argument.name}`{' (optional)' if argument.optional else ''}: {argument.kind}"

    return _table(
        ["request", "roles", "at", "arguments", "meaning"],
        [
            [
                f"`{row.name}`",
                ", ".join(row.roles),
                ", ".join(f"`{port}`" for port in row.ports),
                "; ".join(map(words, row.arguments)) or "none",
                row.meaning,
            ]
            for row in messages.REQUESTS.values()
        ],
    )


def answers_table() -> str:
    """What may be the answer to each request, as it travels."""

    def shown(answer) -> str:
        fields = [field.name + "?" * field.optional for field in answer.fields]
        words = [f'"{answer.word}"'] if answer.word else []
        return f"`[{', '.join(words + fields)}]`" + " and a package" * answer.stream

    return _table(
        ["request", "answers"],
        [
            [f"`{row.name}`", "; ".join(shown(messages.ANSWER_ROWS[each]) for each in row.answers)]
            for row in messages.REQUESTS.values()
        ],
    )


def errors_table() -> str:
    """Codes on the wire, exit statuses of commands."""
    return _table(
        ["code", "exit", "meaning"],
        [[f"`{code}`", each.exit, _first_line(each)] for code, each in errors.BY_CODE.items()],
    )


def _first_line(described: object) -> str:
    return (described.__doc__ or "").strip().splitlines()[0]


def limits_table() -> str:
    """What is refused, whoever sends it."""
    return _table(
        ["limit", "value"],
        [
            ["bytes of a frame's payload", wire.FRAME_BYTES_MAX],
            ["bytes of a message, inflated", wire.MESSAGE_BYTES_MAX],
            ["depth of nesting", wire.DEPTH_MAX],
            ["commas in a message", wire.VALUES_MAX],
            [
                "bytes of a message, inflated, and commas in it, on the port for news",
                f"{wire.NEWS_BYTES_MAX}, {wire.NEWS_VALUES_MAX}",
            ],
            ["digits of a whole number", wire.INTEGER_DIGITS_MAX],
            ["characters of a text argument, a policy too", fields.TEXT_MAX],
            ["entries of a list of names, or of a plan", fields.LIST_MAX],
            ["steps of a FIND", fields.STEPS_MAX],
            ["records in a view", membership.RECORDS_MAX],
            ["records in an exchange", exchange.RECORDS_TOLD_MAX],
            ["bytes of records and certificates that BDserver puts into an exchange", exchange.RECORDS_BYTES_MAX],
            ["likewise of policies", exchange.POLICIES_BYTES_MAX],
            [
                "bytes of `versions`; of `wanted`, and as many of `unmet`",
                f"{exchange.VERSIONS_BYTES_MAX}, {exchange.WANTED_BYTES_MAX}",
            ],
            ["bytes of a statement as it travels", membership.RECORD_BYTES_MAX],
            ["services of one record", membership.SERVICES_MAX],
            [
                "characters of an address, a `web_dir`, a URL",
                f"{membership.ADDRESS_CHARACTERS_MAX}, {membership.WEB_DIR_CHARACTERS_MAX}, {urls.URL_CHARACTERS_MAX}",
            ],
            ["`load`", f"0 to {membership.LOAD_MAX}"],
            ["`free_dynamic`", f"0 to {membership.FREE_DYNAMIC_MAX}"],
            ["`receiver_threshold`", f"0 to {membership.THRESHOLD_MAX:.0f}"],
            ["cost of a service", f"0 to {membership.COST_MAX:.0f}"],
            ["characters of a certificate in base64", membership.CERTIFICATE_CHARACTERS_MAX],
            ["certificates asked for at once", exchange.CERTIFICATES_ASKED_MAX],
            [
                "messages of one node, and bytes of them, inflated, that are read in a turn of the loop for news",
                f"{callers.TURN_MESSAGES_MAX}, {callers.TURN_BYTES_MAX}",
            ],
            ["records of one teller that are proved within a minute", tellers.PROVED_MAX],
            ["of those, and of what is no record, refused", tellers.REFUSED_MAX],
            ["times that one node's own word is news within a minute", tellers.CHANGES_MAX],
            ["texts of policies that a node keeps", membership.POLICIES_MAX],
            ["texts of policies asked for at once", exchange.POLICIES_ASKED_MAX],
            ["accusers that a record names", membership.ACCUSERS_MAX],
            ["a version's generation and counter", membership.VERSION_MAX],
            ["seconds that a generation, or `since`, may be ahead of the receiver's clock", f"{membership.AHEAD_MAX:.0f}"],
            ["packages under way through a node", parcels.UNDER_WAY_MAX],
            ["of those, for one caller", parcels.OF_ONE_CALLER_MAX],
        ],
    )


# --- man pages ----------------------------------------------------------------------------------------------------


def _roff(text: str) -> str:
    """A text as roff shows it: no command, no hyphen that cannot be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("~", "\\(ti").replace("^", "\\(ha").replace("…", "...")
    return "\\&" + escaped if escaped.startswith(".") else escaped


def _metavar(action: argparse.Action) -> str:
    if action.choices and action.metavar is None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def _argument(action: argparse.Action) -> str:
    """How an argument stands in a synopsis: FILE, [FILE], [--url URL], --host HOST [--host HOST ...]."""
    value = _metavar(action)
    if action.option_strings:
        option = action.option_strings[-1]
        text = option if action.nargs == 0 else f"{option} {value}"
        more = f" [{text} ...]" if isinstance(action, argparse._AppendAction) else ""
        return f"{text}{more}" if action.required else f"[{text}{more}]"
    return {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]"}.get(str(action.nargs), value)


def _synopsis(parser: argparse.ArgumentParser) -> str:
    """What stands behind a command: arguments, then options that must be, then the others."""
    actions = sorted(_actions(parser), key=lambda action: (bool(action.option_strings), not action.required))
    return " ".join(map(_argument, actions))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if not isinstance(action, argparse._HelpAction))


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A .TP for each option and each argument that has a help text."""
    formatter = parser._get_formatter()
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction) or not action.help:
            continue
        name = ", ".join(action.option_strings) or _metavar(action)
        value = f" {_metavar(action)}" if action.option_strings and action.nargs != 0 else ""
        said = _roff(formatter._expand_help(action))
        yield f".TP\n.BI {_quoted(name)} {_quoted(value)}\n{said}\n" if value else f".TP\n.B {_roff(name)}\n{said}\n"


def _quoted(text: str) -> str:
    return '"' + _roff(text).replace('"', "\\(dq") + '"'


def options_of(module) -> Callable[[], str]:
    """The options of a command."""
    return lambda: "".join(_described(module._parser()))


def commands_of(module) -> Callable[[], str]:
    """The subcommands of a command, each with its arguments."""

    def made() -> str:
        blocks = []
        for name, parser in completion.subparsers(module._parser()).items():
            blocks.append(
                f".SS {_quoted(f'{name} {_synopsis(parser)}'.strip())}\n{_roff(_sentence(parser.description or ''))}\n"
            )
            blocks += _described(parser)
        return "".join(blocks)

    return made


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def title_of(name: str, section: int) -> Callable[[], str]:
    """The .TH line."""
    return lambda: f'.TH {name.upper()} {section} {MANUAL_DATE} "BDserver {__version__}" "BDserver"\n'


def settings_list(table: tuple[settings.Setting, ...] = settings.SETTINGS) -> str:
    """Every setting of bdserverd.conf, or of another table."""
    blocks = []
    for each in table:
        default = each.kind.write(each.default) if not isinstance(each.default, str) else each.default
        said = f"Default: {default}." if default else "Default: empty."
        note = " SIGHUP changes it." if each.reloadable else ""
        value = each.kind.words
        blocks.append(f".TP\n.B {_roff(each.name)}\n{_roff(each.meaning)}\nValue: {_roff(value)}.\n{_roff(said + note)}\n")
    return "".join(blocks)


PARTS: dict[str, Callable[[], str]] = {
    "requests": requests_table,
    "answers": answers_table,
    "errors": errors_table,
    "limits": limits_table,
    "settings": settings_list,
    "settings of audit": lambda: settings_list(audit_config.SETTINGS),
    "settings of gateway": lambda: settings_list(gateway_config.SETTINGS),
    "title of bdserverd": title_of("bdserverd", 8),
    "title of bdwhereis": title_of("bdwhereis", 1),
    "title of bdctl": title_of("bdctl", 1),
    "title of bdkeys": title_of("bdkeys", 1),
    "title of bddemo": title_of("bddemo", 1),
    "title of bdgateway": title_of("bdgateway", 8),
    "title of bdserverd conf": title_of("bdserverd.conf", 5),
    "title of audit conf": title_of("audit.conf", 5),
    "title of gateway conf": title_of("gateway.conf", 5),
    "title of bdcert": title_of("bdcert", 5),
    "options of bdserverd": options_of(bdserverd),
    "options of bdwhereis": options_of(bdwhereis),
    "options of bdctl": options_of(bdctl),
    "options of bdkeys": options_of(bdkeys),
    "options of bddemo": options_of(bddemo),
    "options of bdgateway": options_of(bdgateway),
    "commands of bdctl": commands_of(bdctl),
    "commands of bdkeys": commands_of(bdkeys),
}


def main(arguments: list[str]) -> int:
    """Write, or with --check say what would be written."""
    os.environ.pop("BDSERVER_CONFIG", None)  # the commands' help names the default path
    changes = outdated()
    for path, text in changes.items():
        if arguments != ["--check"]:
            with open(os.path.join(ROOT, path), "w", encoding="utf-8") as file:
                file.write(text)
        print(f"{path}: {'outdated: make generate' if arguments == ['--check'] else 'written'}")
    return 1 if changes and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

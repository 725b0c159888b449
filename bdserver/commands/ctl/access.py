"""Who may be in the mesh and talk to whom: invitations, revocations, another CA, the admin's password, policies."""

from __future__ import annotations

import sys
from argparse import Namespace

from bdserver.commands import calling
from bdserver.commands.ctl.subcommand import Command, ask, option, print_json, status_of, typed_password
from bdserver.errors import BadConfig


def invite(options: Namespace) -> None:
    """Print the line by which a host joins; with --list the invitations, with --revoke end one."""
    from bdserver.commands.ctl import inviting

    if sum(map(bool, (options.name, options.list, options.revoke))) > 1:
        raise BadConfig("invite: a NAME, --list and --revoke are three things: give one of them")
    inviting.invite(options, lambda request: ask(options, request))


def revoke(options: Namespace) -> None:
    """Tell the mesh that a certificate counts no longer; with --list what it was told."""
    from bdserver.commands.ctl import revoking

    if options.list:
        revoking.refuse_beside_list(options)
        return revoking.show(status_of(options).own.get("revoked", []), options.json)
    wish = revoking.wish(options)
    for line in ask(options, ["REVOKE", wish]).notes:
        calling.warn("bdctl", line)
    return print_json(wish) if options.json else None


def roll(options: Namespace) -> None:
    """Tell the mesh that another CA follows, as bdkeys roll has it."""
    from bdserver.commands.ctl import revoking

    ask(options, ["ROLL", revoking.statement_in(options.file)])


def password(options: Namespace) -> None:
    """Print the hash of a password, for admin_password."""
    import getpass

    from bdserver.files.password import hash_password

    first = typed_password()
    if sys.stdin.isatty() and getpass.getpass("again: ") != first:
        raise BadConfig("the two passwords differ")
    if not first:
        raise BadConfig("an empty password")
    print(hash_password(first))


def policy(options: Namespace) -> int:
    """Show a WS-Policy in the original's form, or compare two."""
    from bdserver.commands.ctl import policy as policies

    if options.action == "show" and len(options.files) == 1:
        return policies.show_command(options.files[0], options.json)
    if options.action == "compare" and len(options.files) == 2:
        return policies.compare_command(options.files[0], options.files[1], options.mode, options.json)
    raise BadConfig("policy show FILE, or policy compare FILE FILE")


COMMANDS = {
    "invite": Command(
        invite,
        "print the line by which a host joins the mesh",
        [
            option("name", metavar="NAME", nargs="?", default="", help="the only name that it may have"),
            option("--hosts", metavar="N", type=int, default=1, help="for so many hosts (default 1)"),
            option("--role", choices=("node", "client", "admin"), default="node", help="default: node"),
            option("--valid", metavar="TIME", type=calling.duration, default=600.0, help="90s, 10m, 2h, 7d (default 10m)"),
            option("--list", action="store_true", help="list the invitations of this node"),
            option("--revoke", metavar="ID", help="let nobody in any more by this one"),
        ],
    ),
    "revoke": Command(
        revoke,
        "tell the mesh that the certificates of a node, client or admin count no longer",
        [
            option("value", metavar="NAME", nargs="?", help="whose; with --serial, of which number"),
            option("--serial", action="store_true", help="NAME is a serial number, as bdkeys show prints it"),
            option("--signer", action="store_true", help="all that the signer of this name has signed"),
            option("--in", dest="within", metavar="TIME", type=calling.duration, help="only then: 10m, 2h (--signer: 10m)"),
            option("--why", metavar="TEXT", default="", help="a reason, for whoever lists them"),
            option("--list", action="store_true", help="list what is revoked"),
        ],
    ),
    "roll": Command(
        roll,
        "tell the mesh that another CA follows: bdkeys roll makes the file; status shows how far it is",
        [option("file", metavar="FILE")],
    ),
    "password": Command(password, "make a hash for admin_password", []),
    "policy": Command(
        policy,
        "show a WS-Policy, or compare two",
        [
            option("action", choices=("show", "compare")),
            option("files", metavar="FILE", nargs="+"),
            option("--mode", choices=("strict", "lax"), default="lax"),
        ],
    ),
}

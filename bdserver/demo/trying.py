"""What a visitor may try in another terminal while the demo runs: commands to paste, and what will be seen.

The tests paste them, and look.
"""

from __future__ import annotations

from bdserver.core.tuples import NamedTuple


class Try(NamedTuple):
    """One thing to provoke: what it is, and what will be seen; the commands, one a line."""

    words: str
    commands: tuple[str, ...]


def tries(http: str, dns: str, again_seconds: float) -> tuple[Try, ...]:
    """`http`: the gateway's address; `dns`: the command that asks it for a record. All are asked of alpha, which none of them
    ends; the overload comes last, since a host that is full takes no copies for a minute."""
    return (
        Try(
            "Ask for a service: by command, by DNS, by HTTP. Each answer is a host that has just agreed to the call.",
            ("alpha/bdwhereis --explain Primes", f"{dns} Primes.bd.internal SRV", f"curl -sLG {http}/Primes -d wsdl | head -3"),
        ),
        Try(
            "A service of your own, with three holders; then its update: a new edition, which all three serve at once.",
            (
                "echo 'edition one' > Hello; alpha/bdctl publish Hello --replicas 3; sleep 6; alpha/bdctl services Hello",
                "echo 'edition two' > Hello; alpha/bdctl publish Hello --replicas 3",
                f"for i in 1 2 3 4 5 6; do curl -sL {http}/Hello; done",
            ),
        ),
        Try(
            "A withdrawal: the copies go with the original. Nobody has it any more, says HTTP (404).",
            ("alpha/bdctl withdraw Hello", f"curl -s {http}/Hello"),
        ),
        Try(
            f"A death: a second later all know, and others answer. The demo starts beta again after {again_seconds:.0f} s.",
            ("kill -9 $(cat beta/var/run/beta.pid); sleep 1; alpha/bdctl nodes", "alpha/bdwhereis --explain Primes"),
        ),
        Try(
            "A node that hangs: others answer; it is suspect, then dead, and nobody asks it. When it goes on, it is back.",
            (
                "kill -STOP $(cat gamma/var/run/gamma.pid); alpha/bdwhereis --explain Primes",
                "sleep 8; alpha/bdctl nodes",
                "kill -CONT $(cat gamma/var/run/gamma.pid); sleep 8; alpha/bdctl nodes",
            ),
        ),
        Try(
            "Overload: each call of Busy weighs 10, and alpha bears 30. After a few it says NO, and the mesh makes a copy.",
            (
                "echo busy > Busy; alpha/bdctl publish Busy --weight 10",
                "for i in 1 2 3 4 5 6; do alpha/bdwhereis Busy; done | sort | uniq -c",
                "alpha/bdctl services Busy",
            ),
        ),
    )


def told(folder: str, all_of_them: tuple[Try, ...]) -> str:
    """As it is printed: whole lines can be pasted, since words stand behind a #."""
    lines = [f"cd {folder}"]
    for each in all_of_them:
        lines += ["", f"# {each.words}", *each.commands]
    return "\n".join(lines)

"""What needs attention: the one rule by which a node, and a mesh, is called well.

Facts come in, plain values that somebody has gathered; findings go out, the gravest first. `bdctl status`, systemd's status
line, the audit, its metrics and `bdctl doctor` show findings, and have no rule of their own. RULES is the list of what a node
can say of itself; `of_another` is what others see of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from bdserver.core.membership import ALIVE, DEAD, SUSPECT
from bdserver.core.tuples import NamedTuple

# One that renews itself is late when so much of its life is left.
LATE_SHARE = 1 / 9
# When the end of a certificate is worth a warning, the nearest first.
CERTIFICATE_DAYS = (1, 7, 30)
# A loop that is later than this is worth a warning; one that has not turned for so long hangs.
LAG_SECONDS, HUNG_SECONDS = 0.5, 10.0
# A discoverer that lacked something so long ago still does: it opens a connection each second.
SHORT_SECONDS = 5.0
# Others refuse what is dated a day ahead; certificates and hit logs mind much less. Two seconds are no fault of NTP's.
AHEAD_DAYS, CLOCK_SECONDS = 1.0, 2.0
# A suspicion that was refuted a minute ago has passed.
DOUBT_SECONDS = 60.0
# A disk is nearly full when both so little of it and so few bytes are left; a tenth of that ends writing at any moment.
DISK_SHARE, DISK_BYTES, DISK_BYTES_GRAVE, INODES_SHARE = 0.05, 1 << 30, 32 << 20, 0.03
# Of the hints of a node that is alone, and of other lists, a finding shows so many.
SHOWN_MAX = 3
NAMES_SHOWN_CHARACTERS = 100
# Longer than any finding of ours; what other nodes tell is cut to it.
WORDS_CHARACTERS_MAX = 1000


class Severity(StrEnum):
    """How bad it is, the gravest first."""

    GRAVE = "grave"  # the node does not do its work, or is about to stop
    WARNING = "warning"  # somebody should look, today
    NOTE = "note"  # worth knowing; the node is well


RANK = {severity: rank for rank, severity in enumerate(Severity)}


class Finding(NamedTuple):
    """One thing that needs attention. `key` stays the same between versions, for programs; `words` say what and where, and
    `remedy` what to do. `lasts`: until somebody mends what is named, so the log has it once."""

    severity: Severity
    key: str
    words: str
    remedy: str = ""
    lasts: bool = False

    @property
    def line(self) -> str:
        """For a person."""
        return f"{self.words}: {self.remedy}" if self.remedy else self.words


class Unmet(StrEnum):
    """Why another node was not met, as a person would look for the cause."""

    REVOKED = "revoked"
    POLICY = "policy"
    MESH = "mesh"
    CLOCK = "clock"
    BLACK_LIST = "black-list"
    CERTIFICATE = "certificate"
    SILENCE = "silence"


# In what was said, whether here or by the other node, these words tell. In this order.
_TOLD_BY = (
    (Unmet.REVOKED, ("revoked",)),
    (Unmet.MESH, ("of mesh ", "not in our ca.crt", "not in the ca.crt there")),
    (Unmet.CLOCK, ("clock", "expired on", "is not valid before")),
    (Unmet.BLACK_LIST, ("black list", "black-listed")),
    (Unmet.CERTIFICATE, ("certificate", "bd/1", "is there, not", " is for ")),
)
REMEDIES = {
    Unmet.REVOKED: "invite it anew (bdctl invite NAME), remove its old key and certificate here, and join again",
    Unmet.POLICY: "compare the two: bdctl policy compare",
    Unmet.MESH: "both need certificates of one mesh, and its ca.crt: bdkeys show",
    Unmet.CLOCK: "set the clock, or renew the certificate: date, bdkeys show",
    Unmet.BLACK_LIST: "see black_list, on both sides",
    Unmet.CERTIFICATE: "see who and what the certificates are for: bdkeys show",
    Unmet.SILENCE: "does it run, and lets every firewall between through both its ports?",
}
RENAME = "each host needs a name of its own, and a certificate for it; one that was stolen: bdctl revoke --serial"
ADOPT = "bdctl adopt, where it is to live on, or bdctl publish --take-over, where it is published anew"
WITHDRAW_ONE = "withdraw one of the two: bdctl withdraw --here"
MAKE_ROOM = "do enough hosts have a free slot, and may they have it?"


def why_unmet(code: str, text: str) -> Unmet:
    """Of an error's code and text."""
    if code.startswith("policy-"):
        return Unmet.POLICY
    return next((why for why, words in _TOLD_BY if any(word in text for word in words)), Unmet.SILENCE)


class Disk(NamedTuple):
    """What is left on the file system of a folder; shares are 1 where a file system does not count."""

    folder: str
    bytes_left: int
    share_left: float
    inodes_share_left: float


class Facts(NamedTuple):
    """All that the rule looks at, as known now. What nobody has found out is at its default, and nothing is found of it."""

    name: str
    address: str
    now: float
    namesakes: Mapping[str, str] = MappingProxyType({})  # names that two live nodes have: which two
    generation: float = 0.0  # of its own record: when it started, by its clock then
    certificate_ends_at: float | None = None
    certificate_seconds: float | None = (
        None  # for so long it is good in all; None: it was made by hand, and does not renew itself
    )
    revocations: str = ""  # why the list of revoked certificates is an old one
    revoked_at: tuple[str, ...] = ()  # nodes that say that our certificate is revoked
    clock_off: float | None = None  # seconds that this clock is ahead of the others'
    is_alone: bool = False  # nobody else is alive
    hints: tuple[str, ...] = ()
    unmet: Mapping[str, tuple[str, str]] = MappingProxyType({})  # name or address: code and text of what came of a visit
    refusals: Mapping[str, str] = MappingProxyType({})  # who does not take in our record: why
    doubted: tuple[tuple[str, ...], float] = ((), 0.0)  # who suspected us, and when
    load: float = 0.0  # share of the threshold
    hung: float = 0.0  # seconds since the discoverer's loop turned
    lag: float = 0.0
    is_short: bool = False  # the discoverer lacks descriptors or memory, and can't write down what fails
    failing: tuple[str, ...] = ()  # a line for each thing that the discoverer could not do
    disks: tuple[Disk, ...] = ()
    stale_files: tuple[str, ...] = ()  # what SIGHUP could not read, so that what was before is in force
    kept_settings: tuple[str, ...] = ()  # that have another value in the config, which counts after a restart
    complaints: tuple[str, ...] = ()  # of files in the services folder
    quarantine: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # services that have no room in our record
    unhealthy: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()  # services whose health nobody looks at
    stale: tuple[str, ...] = ()  # copies that are older than their originals
    orphans: tuple[str, ...] = ()  # copies whose originals are gone
    rivals: tuple[str, ...] = ()  # originals of which another node has one that differs
    publishers: str = ""  # why nobody's signature counts, though there is a list of publishers
    untrusted: Mapping[str, str] = MappingProxyType({})  # copies that are not offered: why no signature of theirs counts
    unsigned: Mapping[str, str] = MappingProxyType({})  # originals that are never copied: why
    short: tuple[str, ...] = ()  # services with fewer living holders than are wanted
    for_others: tuple[str, ...] = ()  # originals that other nodes are to have, too


def findings(facts: Facts) -> list[Finding]:
    """What needs attention at a node, by its own word; the gravest first, and in the order of RULES."""
    return gravest_first(finding for rule in RULES for finding in rule(facts))


def gravest_first(found: Iterable[Finding]) -> list[Finding]:
    """Those of one severity stay in their order."""
    return sorted(found, key=lambda finding: RANK[finding.severity])


def lines(found: Iterable[Finding]) -> list[str]:
    """Those that keep a node from being well, each as a line."""
    return [finding.line for finding in found if finding.severity != Severity.NOTE]


def summary(found: Iterable[Finding]) -> str:
    """In a few words, for one line; "" when all is well."""
    said = lines(found)
    more = f" (and {len(said) - 1} more: bdctl status)" if len(said) > 1 else ""
    return said[0] + more if said else ""


# --- on the wire --------------------------------------------------------------------------------------------------


def as_json(finding: Finding) -> dict[str, str]:
    """As STATUS, the audit and `bdctl doctor --json` tell it."""
    return {"severity": finding.severity, "key": finding.key, "text": finding.words, "remedy": finding.remedy}


def from_json(value: Mapping[str, Any]) -> Finding:
    """What another node tells, of any version: an unknown severity is a warning."""
    texts = {key: value[key] if isinstance(value.get(key), str) else "" for key in ("severity", "key", "text", "remedy")}
    severity = Severity(texts["severity"]) if texts["severity"] in RANK else Severity.WARNING
    key, words, remedy = (texts[key][:WORDS_CHARACTERS_MAX] for key in ("key", "text", "remedy"))
    return Finding(severity, key, words, remedy)


# --- the rule -----------------------------------------------------------------------------------------------------


def _grave(key: str, words: str, remedy: str = "", lasts: bool = False) -> Finding:
    return Finding(Severity.GRAVE, key, words, remedy, lasts)


def _warning(key: str, words: str, remedy: str = "", lasts: bool = False) -> Finding:
    return Finding(Severity.WARNING, key, words, remedy, lasts)


def _rival(facts: Facts) -> Iterator[Finding]:
    for name, words in facts.namesakes.items():
        severity = Severity.GRAVE if name == facts.name else Severity.WARNING
        yield Finding(severity, "rival", f"two live nodes are named {name}: {words}", RENAME, lasts=True)


def _certificate(facts: Facts) -> Iterator[Finding]:
    """From 30 days on, then 7, then 1; the words stay the same between, so that they can be said once each. One that renews
    itself is worth a word only when that is late."""
    ends_at, seconds = facts.certificate_ends_at, facts.certificate_seconds
    if seconds is not None:
        if ends_at is not None and ends_at - facts.now < seconds * LATE_SHARE:
            ends = datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
            is_over = ends_at < facts.now
            words = f"the certificate of {facts.name} {'ended' if is_over else 'ends'} on {ends}, and no signer has renewed it"
            remedy = (
                "bdkeys join again" if is_over else "see that a node with signer=yes lives; when it is over: bdkeys join again"
            )
            yield _grave("certificate-ends", words, remedy, lasts=True)
        return
    left = (ends_at - facts.now) / 86400 if ends_at is not None else float("inf")
    limit = next((days for days in CERTIFICATE_DAYS if left < days), None)
    if ends_at is not None and limit is not None:
        ends = datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        word, severity = ("day", Severity.GRAVE) if limit == 1 else ("days", Severity.WARNING)
        words = f"the certificate of {facts.name} ends in less than {limit} {word}, on {ends}"
        yield Finding(severity, "certificate-ends", words, "bdkeys renew, then SIGHUP", lasts=True)


def _revocations(facts: Facts) -> Iterator[Finding]:
    if facts.revoked_at:
        words = f"{few(facts.revoked_at)} say that the certificate of {facts.name} is revoked, and do not speak with it"
        yield _grave("revoked", words, REMEDIES[Unmet.REVOKED], lasts=True)
    if facts.revocations:
        yield _grave("revocations", facts.revocations, lasts=True)


def _clock(facts: Facts) -> Iterator[Finding]:
    ahead = (facts.generation - facts.now) / 86400
    if ahead > AHEAD_DAYS:
        words = f"this node started {ahead:.1f} days ahead of its clock, so others refuse its record"
        yield _grave("started-ahead", words, "restart it", lasts=True)
    off = facts.clock_off
    if off is not None and abs(off) > CLOCK_SECONDS:
        words = f"the clock here is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the other nodes'"
        yield _warning("clock", words, "if it is the wrong one, set it; and have NTP keep it")


def _alone(facts: Facts) -> Iterator[Finding]:
    if not facts.is_alone or not facts.hints:
        return
    shown = ", ".join(facts.hints[:SHOWN_MAX])
    said = [facts.unmet[hint] for hint in facts.hints if hint in facts.unmet]
    if not said:
        yield _grave("alone", f"alone: none of the nodes at its hints ({shown}) is met yet")
        return
    code, text = min(said, key=lambda each: list(Unmet).index(why_unmet(*each)))
    why = why_unmet(code, text)
    yield _grave(f"alone-{why}", f"alone: none of the nodes at its hints ({shown}) is met: {text}", REMEDIES[why])


def _unwelcome(facts: Facts) -> Iterator[Finding]:
    for name, why in sorted(facts.refusals.items()):
        yield _warning("record-refused", f"{name} refuses our record: {why}")
    accusers, at = facts.doubted
    if accusers and 0 <= facts.now - at < DOUBT_SECONDS:
        words = f"suspected by {few(accusers)} a moment ago: they did not reach this node"
        yield _warning("suspected", words, "does a firewall keep them out, or is it, or the way to it, overloaded?")


def _signatures(facts: Facts) -> Iterator[Finding]:
    if facts.publishers:
        yield _grave("publishers", f"no copy is taken in or offered: {facts.publishers}", "correct it, then SIGHUP", lasts=True)
        return
    if facts.untrusted:
        words = f"copies here are not offered, since no publisher's signature counts: {_few_with_why(facts.untrusted)}"
        yield _warning("untrusted", words, "have them signed where their originals are: bdctl sign", lasts=True)
    for name, why in sorted(facts.unsigned.items()):
        severity = Severity.WARNING if name in facts.for_others else Severity.NOTE
        yield Finding(severity, "unsigned", f"{name} is served here and never copied: {why}", "bdctl sign", lasts=True)


def _overload(facts: Facts) -> Iterator[Finding]:
    if facts.load > 1:
        yield _warning("overloaded", _overloaded(facts.load))


def _overloaded(load: float) -> str:
    return f"overloaded: {max(round(100 * load), 101)} % of its threshold"


def _discoverer(facts: Facts) -> Iterator[Finding]:
    if facts.hung > HUNG_SECONDS:
        words = f"the discoverer hangs for {facts.hung:.0f} s: this node hears no news, and others take it for dead"
        yield _grave("hung", words)
    if facts.lag > LAG_SECONDS:
        words = f"the discoverer's loop was {facts.lag:.1f} s late: this machine has too little processor time"
        yield _warning("lag", words)
    if facts.is_short:
        words = "the discoverer lacks descriptors or memory: this node calls others, or is called, late or not at all"
        yield _grave("shortage", words, "what holds them? Its limit is LimitNOFILE of the unit, or ulimit -n")
    for line in facts.failing:
        yield _warning("failing", line)


def _disks(facts: Facts) -> Iterator[Finding]:
    for disk in facts.disks:
        if disk.bytes_left < DISK_BYTES_GRAVE or (disk.share_left < DISK_SHARE and disk.bytes_left < DISK_BYTES):
            severity = Severity.GRAVE if disk.bytes_left < DISK_BYTES_GRAVE else Severity.WARNING
            words = f"the disk of {disk.folder} is nearly full: {disk.bytes_left >> 20} MiB are left"
            yield Finding(severity, "disk", words, "make room")
        elif disk.inodes_share_left < INODES_SHARE:
            words = f"the disk of {disk.folder} has {100 * disk.inodes_share_left:.1f} % of its inodes left"
            yield _warning("inodes", words, "remove files")


def _files(facts: Facts) -> Iterator[Finding]:
    for line in facts.stale_files:
        yield _warning("reload", f"what was before SIGHUP is in force: {line}", "mend it, then SIGHUP again", lasts=True)
    if facts.kept_settings:
        words = f"in the config these have other values than in force: {', '.join(facts.kept_settings)}"
        yield Finding(Severity.NOTE, "restart", words, "restart the daemon", lasts=True)
    for complaint in facts.complaints:
        yield _warning("complaint", complaint, lasts=True)
    for entry in facts.quarantine:
        yield _warning("quarantine", entry, lasts=True)


def _services(facts: Facts) -> Iterator[Finding]:
    if facts.left_out:
        names, count = ", ".join(facts.left_out)[:NAMES_SHOWN_CHARACTERS], len(facts.left_out)
        words = f"{count} services are not told to the mesh, which has no room for them in a record: {names}"
        yield _warning("left-out", words, lasts=True)
    for name in facts.unhealthy:
        yield of_sick_service(name)
    if facts.stale:
        yield _warning("stale", f"copies here are older than their originals: {few(facts.stale)}")
    if facts.orphans:
        words = f"copies here have no original any more: {few(facts.orphans)}"
        yield _warning("orphan", words, ADOPT)
    if facts.rivals:
        words = f"another node has an original of the same name, which differs: {few(facts.rivals)}"
        yield _warning("rivals", words, WITHDRAW_ONE)
    if facts.short:
        words = f"services with fewer living holders than are wanted: {few(facts.short)}"
        yield _warning("short", words, MAKE_ROOM)
    if facts.unchecked:
        words = f"nobody looks whether these services are well: {few(facts.unchecked)}"
        yield Finding(Severity.NOTE, "unchecked", words, "health=http (or tcp) in the .bdcert")


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _rival,
    _certificate,
    _revocations,
    _clock,
    _alone,
    _files,
    _services,
    _signatures,
    _overload,
    _discoverer,
    _unwelcome,
    _disks,
)


def of_another(state: str, failure: str, load: float) -> Iterator[Finding]:
    """What is seen of a node that does not speak for itself. `load`: the share of its threshold that it told the others."""
    if state == DEAD:
        yield _grave("dead", DEAD)
    elif state == SUSPECT:
        yield _grave("suspect", "suspected to be dead")
    elif failure:
        yield _warning("silent", f"did not answer: {failure}")
    if state in (ALIVE, SUSPECT) and load > 1:
        yield _warning("overloaded", _overloaded(load))


def of_disagreement(says: Mapping[str, Iterable[str]]) -> Finding:
    """Nodes differ on another one; `says`: what they say, and who."""
    words = "; ".join(f"{state} for {few(observers)}" for state, observers in sorted(says.items()))
    return _warning("disagreement", f"the nodes disagree on it: {words}")


def _few_with_why(why: Mapping[str, str]) -> str:
    return few(f"{name} ({said})" for name, said in sorted(why.items()))


def of_sick_service(name: str) -> Finding:
    """A holder has found that the service does not answer there."""
    return _warning("unhealthy", f"the service {name} is not well, and not offered")


# What of a node keeps calls from each of its services.
OF_HOLDERS = frozenset({"dead", "suspect", "silent", "overloaded"})


def of_service(living: int, wanted: int, stale: Iterable[str], orphans: Iterable[str], rivals: str) -> Iterator[Finding]:
    """What is seen of a service as a whole: nodes that have an old edition of it, or a copy without an original, and which
    originals differ ("" where none do)."""
    if rivals:
        yield _warning("rivals", f"originals of one name that differ: {rivals}", WITHDRAW_ONE)
    if orphans := list(orphans):
        yield _warning("orphan", f"copies that have no original any more: {few(orphans)}", ADOPT)
    if stale := list(stale):
        yield _warning("stale", f"copies that are older than their original: {few(stale)}")
    if living < wanted:
        yield _warning("short", f"{living} of {wanted} holders live", MAKE_ROOM)


def few(names: Iterable[str]) -> str:
    """The first of these, and how many there are beside."""
    known = list(names)
    more = f" and {len(known) - SHOWN_MAX} more" if len(known) > SHOWN_MAX else ""
    return ", ".join(known[:SHOWN_MAX]) + more

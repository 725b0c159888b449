"""WILLYOUREPLICATE, GIVESERVICE, FIND, MASSMESSAGE: how a copy of a service comes to a host with room.

What may be in a package is checked by files.package, its going live is one rename of files.moves; which replica gives way
is core.weight's choice. A package on its way is a file on the disk of the services, never held in memory; how many may be under
way is files.parcels' business.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from bdserver.core import copies, membership, messages, pages, plan, routing, turns, weight
from bdserver.core.address import host_part
from bdserver.core.copies import Renew
from bdserver.core.membership import COUNTER_MAX, Copies, Edition, Record
from bdserver.core.messages import DontHave, Found, NetFault, No, NotFound, NotGiven, Package, RelayedYes, Yes
from bdserver.core.names import valid_name
from bdserver.core.nudges import Hurry
from bdserver.core.roles import NODE
from bdserver.core.tuples import NamedTuple
from bdserver.core.view import View
from bdserver.errors import BadConfig, BadPackage, BadRequest, BDError, CantFind, Deadline, NobodyThere, TooBusy
from bdserver.files import durable, package
from bdserver.files.bdcert import Service
from bdserver.files.publishers import Signed
from bdserver.files.quarantine import Kind
from bdserver.processes.describing import update_own
from bdserver.processes.node import Node
from bdserver.processes.session import Session
from bdserver.processes.world import yes

# Steps of a FIND that this node starts itself, when a replica is wanted and no cache knows a holder.
FIND_STEPS = 4
FIND_SECONDS = 2.0
# Of a service's holders, the journal names this many.
HOLDERS_TOLD = 5
# Two callers want the same replica at once: the second looks this often whether the first has it, and gives up so long
# before its own caller's patience ends.
COPY_POLL_SECONDS, COPY_MARGIN_SECONDS = 0.02, 0.2

log = logging.getLogger("bdserver.replicating")


def answer_willyoureplicate(session: Session, service: str, is_call: bool = True) -> Yes | No | NotGiven:
    """YES when we have it (now), in the edition that counts; NO without room; NotGiven when no holder gives it."""
    node = session.node
    if (renewal := _renewal(session, service)) is not None or node.services.get(service) is None:
        refusal = _replicate(session, service, renewal, is_call)
        if refusal is not None:
            return refusal
        update_own(node)
    mine = node.services.get(service)
    if mine is None:  # withdrawn this very moment
        return No()
    if service in node.trust.untrusted():
        return NotGiven()
    if is_call:
        node.hit(service, session.caller.host, node.clock())
    return yes(node.settings, session.look_again(), mine)


def _renewal(session: Session, service: str) -> Renew | None:
    return copies.to_renew(session.view(), service, session.node.services.get(service))


@contextlib.contextmanager
def one_at_a_time(session: Session, service: str) -> Iterator[None]:
    """Two callers that want the same replica at once get one copy: the second waits for the first."""
    folder = session.node.services.scratch_dir
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{service}.lock")
    while (file := _locked(path)) is None:
        if session.left() <= COPY_MARGIN_SECONDS:
            raise Deadline(f"another copy of {service} is still on its way")
        time.sleep(COPY_POLL_SECONDS)
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _locked(path: str) -> BinaryIO | None:
    """The lock file, locked; None while somebody else has it, or has just removed what we opened."""
    file = durable.open_lock(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None


def _replicate(session: Session, service: str, renewal: Renew | None, is_call: bool) -> No | NotGiven | None:
    """Install a copy, or renew ours; None when it is there, else the refusal."""
    node = session.node
    if renewal is None and node.settings.max_dynamic == 0:
        return No()
    if session.view().own.draining or node.load.is_overloaded(node.clock()):
        return No()
    with contextlib.ExitStack() as held:
        found = None
        if not _holders(session.view(), service):  # perhaps nobody ever heard of it: the search comes before a lock of its name
            found = _searched(session, service)
            if found is None or found.file is None:
                return NotGiven()
            held.enter_context(found.file)
        held.enter_context(one_at_a_time(session, service))
        if renewal is not None:
            return renew(session, renewal)
        return _copied(session, service, found, is_call) if node.services.get(service) is None else None


def renew(session: Session, renewal: Renew, is_spoilt: bool = False) -> NotGiven | None:
    """Have our copy become that edition; None when it is (perhaps another caller was faster). `is_spoilt`: what lies here is
    not what its edition says."""
    node, name = session.node, renewal.name
    here = node.services.get(name)
    if here is None or not here.is_copy:
        return None
    is_labelled = (here.original, here.edition) == (renewal.original, renewal.edition)
    if is_labelled and not is_spoilt:
        return None
    is_signed = bool(here.signature) or _is_signed(session.view(), renewal)
    if here.edition.digest == renewal.edition.digest and not is_spoilt and not is_signed:
        node.services.relabel(name, lambda now: now._replace(original=renewal.original, edition=renewal.edition))
        _note_update(node, renewal, why="what it has is the same")
        return None
    found = _fetched(session, name, renewal)
    if found is None or found.file is None:
        return NotGiven()
    _install(session, name, found)
    _note_update(node, renewal, giver=found.giver)
    log.info("%s is now edition %s of %s, from %s", name, renewal.edition.digest[:8], renewal.original, found.giver)
    return None


def _is_signed(view: View, renewal: Renew) -> bool:
    """Whether a signature comes with it: then the package is fetched, though its bytes are here."""
    return any(record.services[renewal.name].signer for record in copies.holders_of(view, renewal.name, renewal.edition))


def _note_update(node: Node, renewal: Renew, **details: str) -> None:
    edition, of = renewal.edition.digest, renewal.original
    node.journal.note("updated", renewal.name, node.clock(), edition=edition, original=of, **details)


def _copied(session: Session, service: str, found: Found | None, is_call: bool) -> No | NotGiven | None:
    node, now = session.node, session.node.clock()
    to_retire = None
    if node.dynamic_count() >= node.settings.max_dynamic:
        to_retire = _lightest(session, now)
        if to_retire is None:
            return No()
    found = found or _fetched(session, service)
    if found is None or found.file is None:
        return NotGiven()
    started = time.monotonic()
    why = _why_replicate(session.view(), service) if is_call else "to stand by: fewer hold it than are wanted"
    _install(session, service, found, to_retire)
    node.journal.note("replicated", service, now, giver=found.giver, asker=session.caller.name, why=why)
    log.info("%s replicated here for %s, installed in %.0f ms", service, session.caller, 1000 * (time.monotonic() - started))
    return None


def _install(session: Session, service: str, found: Found, to_retire: str | None = None) -> None:
    """A package, all of it checked, goes live, unless it was withdrawn while it came; before that the copy whose slot it needs
    goes to the graveyard."""
    node, file = session.node, found.file
    if file is None:
        raise BadPackage(f"package of {service}: there is none")
    label = _Label.of(found)
    origin = f"the package of {service} from {found.giver}"
    with file, node.quarantine.guard(Kind.PACKAGE, package.digest(file), origin):
        folder = _unpacked(node, file, found.described, service)
    packed = label.on(node.services.unpacked(folder, service))
    try:
        if copies.standing(session.look_again(), service, packed).is_withdrawn:
            raise CantFind(f"{service} was withdrawn while it came from {found.giver}")
        node.trust.take(service, found.described["sha256"], label.signature, node.clock())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if to_retire is not None:
        node.services.retire(to_retire)
        node.journal.note("retired", to_retire, node.clock(), why=f"its slot is needed for {service}")
        log.info("%s retired to the graveyard: its slot is needed for %s", to_retire, service)
    node.services.install(folder, packed, node.clock())


class _Label(NamedTuple):
    """What a giver says of its package: which edition it is, and whose; and the signature of who has published it."""

    edition: Edition
    original: str
    signature: str
    signer: str

    @classmethod
    def of(cls, found: Found) -> _Label:
        """BadPackage when it can't be; without a word it is the giver's own, whose edition nobody has numbered yet."""
        said, digest = found.described, package.edition_of(found.described["sha256"])
        edition, original = said.get("edition", [0, digest]), said.get("original", found.giver)
        is_right = (
            isinstance(edition, list) and len(edition) == 2 and type(edition[0]) is int and 0 <= edition[0] <= COUNTER_MAX
        )
        if not is_right or edition[1] != digest or not isinstance(original, str) or not valid_name(original):
            raise BadPackage(f"the package from {found.giver} is not the edition that it is said to be")
        signature = said.get("signature", "")
        signer = _signer(found, signature) if signature else ""
        return cls(Edition(*edition), original, signature, signer)

    def on(self, service: Service) -> Service:
        """The service that was in the package."""
        return service._replace(**self._asdict())


def _signer(found: Found, signature: object) -> str:
    """The key that is said to have signed the package; BadPackage when the signature is none of this package. Whether the key
    counts, trust knows."""
    try:
        signed = Signed.of_text(signature) if isinstance(signature, str) else None
    except ValueError as error:
        raise BadPackage(f"the package from {found.giver}: {error}") from None
    if signed is None or not signed.is_of(found.described["sha256"]):
        raise BadPackage(f"the package from {found.giver} is not the one that was signed")
    return signed.signer


def _lightest(session: Session, now: float) -> str | None:
    """The replica that gives way to another one; None when each has only just come, or is the last holder, or one of those that
    its original wants."""
    node, view = session.node, session.view()
    weights, here = node.load.weights(now), node.services.all().values()
    replicas = [(s.name, weights[s.name], s.arrived_at) for s in here if s.is_copy and turns.can_spare(view, s.name)]
    return weight.to_retire(replicas, now)


def _unpacked(node: Node, file: Any, described: dict[str, Any], service: str) -> str:
    """The folder of a package, all of it checked."""
    limits = node.settings.package_bytes_max, node.settings.package_files_max
    return package.unpack(file, described["sha256"], service, node.services.scratch_dir, *limits)


def _why_replicate(view: View, service: str) -> str:
    """A copy is asked for when each holder said NO, or the client may talk to none; which ones are known here."""
    holders = sorted(each.name for each in _holders(view, service))
    return "overloaded, draining, or kept from the client by policy: " + (
        ", ".join(holders[:HOLDERS_TOLD]) or "holders that are not known here"
    )


def _holders(view: View, service: str) -> list[Record]:
    return [record for record in view.others_there() if service in record.services]


def _searched(session: Session, service: str) -> Found | None:
    """The package of somebody whom no cache here mentions."""
    with contextlib.suppress(BDError):
        said = find(session, service, [], FIND_STEPS)
        if isinstance(said, Found) and said.file is not None:
            return _believed(session, service, said, None)
    return None


def _fetched(session: Session, service: str, renewal: Renew | None = None) -> Found | None:
    """The package and its giver: a holder that we may call, else one behind others, else whom a search finds. For a renewal: of
    that edition and no other."""
    view, policies = session.view(), session.node.policies
    holders = [record for record in _holders(view, service) if record.services[service].replicable]
    if renewal is not None:
        holders = [record for record in holders if record.services[service].edition == renewal.edition]
    else:
        holders = copies.current(view, service, holders)
    near = [record for record in holders if policies.talkable(view, record)]
    for record in routing.ordered(near, session.node.rng):
        try:
            said = session.ask(record.name, ["GIVESERVICE", service], session.left() * routing.SHARE)
        except BDError as error:
            log.info("%s does not give %s: %s", record.name, service, error)
            continue
        if isinstance(said, Package) and (found := _believed(session, service, Found(record.name, *said), renewal)):
            return found
    far = [record.name for record in holders[: plan.RECIPIENTS_MAX]]
    found = _fetched_through_others(session, service, far, renewal)
    return found or (_searched(session, service) if renewal is None else None)


def _believed(session: Session, service: str, found: Found, renewal: Renew | None) -> Found | None:
    """What was given, if it is what the mesh says of it, and what is wanted; else it is closed."""
    try:
        label = _Label.of(found)
        session.node.trust.check(service, found.described["sha256"], label.signature, session.node.clock())
        if renewal is not None and label.edition.digest == renewal.edition.digest:
            return found._replace(described={**found.described, "edition": list(renewal.edition), "original": renewal.original})
        if renewal is None and copies.is_credible(session.view(), service, found.giver, label.original, label.edition):
            return found
        why = "another edition than its original's node tells"
    except (BadPackage, BadConfig) as error:
        why = str(error)
        session.node.journal.note_once("refused", service, session.node.clock(), giver=found.giver, why=why)
    log.info("%s from %s is not taken: %s", service, found.giver, why)
    if found.file is not None:
        found.file.close()
    return None


def _fetched_through_others(session: Session, service: str, far: list[str], renewal: Renew | None) -> Found | None:
    if not far:
        return None
    view, policies, node = session.view(), session.node.policies, session.node
    tree = plan.tree(
        node.name,
        [record.name for record in view.others_there()],
        far,
        lambda a, b: policies.can_talk(view, view.records[a], view.records[b]),
        node.rng,
    )
    for relay in tree[plan.SELF]:
        request = ["MASSMESSAGE", plan.branch(tree, relay), far, ["GIVESERVICE", service]]
        with contextlib.suppress(BDError):
            said = session.ask(relay, request, session.left() * routing.SHARE)
            if isinstance(said, Found) and said.file is not None and (found := _believed(session, service, said, renewal)):
                return found
    return None


def answer_giveservice(session: Session, service: str) -> Package | No:
    """The package. The REPLICATE line makes our older hits count a tenth less: one burst does not flood the mesh with
    replicas."""
    node = session.node
    mine = node.services.get(service)
    if mine is None or not _may_give(session, mine):
        return No()
    given = _labelled(session, mine)
    if given is None:
        return No()
    node.hit(service, session.caller.host, node.clock(), "REPLICATE")
    node.journal.note("gave", service, node.clock(), taker=session.caller.name)
    return given


def _may_give(session: Session, mine: Service) -> bool:
    """Whether others may have a copy, whoever asks: one that has no new view yet, or another mind, would. What nobody has
    numbered yet may be half there: whoever asks waits until it has rested, if there is time for that."""
    node, files_max = session.node, session.node.settings.package_files_max
    if not node.trust.judged().may_give(mine) or (mine.copies or node.settings.copies) == Copies.NONE:
        return False
    if mine.edition.digest:
        return True
    seconds = package.rests_in(mine, files_max)
    if 0 < seconds < session.left():
        time.sleep(seconds)
        seconds = package.rests_in(mine, files_max)
    return not seconds


def _labelled(session: Session, mine: Service) -> Package | None:
    """Our service's package, and which edition of whose it is; None while its files are not that edition: somebody has changed
    them, and writes them still."""
    given, label = session.packed(mine), {"original": mine.original or session.node.name}
    if mine.edition.digest and package.edition_of(given.described["sha256"]) != mine.edition.digest:
        if given.file is not None:
            given.file.close()
        log.info(
            "%s is not given: its files are not edition %s any more", mine.name, mine.edition.digest[: copies.DIGEST_SHOWN]
        )
        return None
    edition = {"edition": list(mine.edition)} if mine.edition.digest else {}
    signature = {"signature": mine.signature} if mine.signature else {}
    return given._replace(described={**given.described, **label, **edition, **signature})


def find(session: Session, service: str, visited: list[str], steps: int) -> Found | NotFound:
    """FIND: depth first through the nodes that we may call; `visited` grows by all who were asked: nobody is asked twice."""
    node, view = session.node, session.view()
    mine = node.services.get(service)
    if mine is not None and service not in node.trust.untrusted():
        given = _labelled(session, mine) if _may_give(session, mine) else None
        if given is None:
            return Found(node.name, {"url": membership.service_url(view.own, service, mine.url)})
        return Found(node.name, *given)
    met = dict.fromkeys([*visited, node.name])
    visited = list(met)
    next_ones = [r.name for r in view.others_there() if r.name not in met and node.policies.talkable(view, r)]
    if steps == 0 or not next_ones:
        return NotFound(pages.within(visited, pages.PAGE_BYTES))
    visited = pages.within([*visited, *next_ones], pages.PAGE_BYTES)
    for name in next_ones:
        try:
            said = session.ask(name, ["FIND", service, visited, steps - 1], min(FIND_SECONDS, session.left() * 0.5))
        except BDError:
            continue
        if isinstance(said, Found):
            return said
        visited = pages.within(dict.fromkeys([*visited, *said.visited]), pages.PAGE_BYTES)
    return NotFound(visited)


def answer_massmessage(
    session: Session, tree: plan.Plan, recipients: list[str], message: list[Any]
) -> RelayedYes | Found | No | DontHave | NetFault:
    """Ask the recipients among our children, then forward the rest of the plan down each branch; the first YES ends it."""
    node = session.node
    messages.check(message, NODE, node.settings.protocol)
    children, asked = list(tree.get(plan.SELF, [])), frozenset(recipients)
    if any(node.name in each for each in tree.values()):
        raise BadRequest(f"INVALID REQUEST: MASSMESSAGE's plan leads back to {node.name}")
    faults: dict[str, None] = dict.fromkeys(child for child in children if child not in session.view().records)
    node.rng.shuffle(children)
    steps = [(child, message) for child in children if child in asked]
    steps += [(c, ["MASSMESSAGE", plan.branch(tree, c), recipients, message]) for c in children if tree.get(c)]
    has_no = False
    for child, request in steps:
        if child in faults:
            continue
        try:
            said = session.ask(child, request, session.left() * routing.SHARE)
        except (NobodyThere, Deadline):
            faults[child] = None
            node.nudge(Hurry(child))
            continue
        except BDError as error:
            has_no = has_no or isinstance(error, TooBusy)
            log.info("%s for %s: %s", request[0], session.caller, error)
            continue
        match said:
            case Yes() | Package():
                return _with_giver(said, session.view(), child)
            case RelayedYes() | Found():
                return said
            case No():
                has_no = True
            case NetFault(names, others):
                faults |= dict.fromkeys(names)
                has_no = has_no or others == "NO"
    if faults:
        return NetFault(pages.within(faults, pages.PAGE_BYTES), "NO" if has_no else "DONTHAVE")
    return No() if has_no else DontHave()


def _with_giver(said: Yes | Package, view: View, name: str) -> RelayedYes | Found:
    """A recipient's YES as it goes back up the tree: whose it is must be in it."""
    if isinstance(said, Package):
        return Found(name, said.described, said.file)
    return RelayedYes(host_part(view.records[name].address), said.axis_port, said.web_dir, said.url, name)

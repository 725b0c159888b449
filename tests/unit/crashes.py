"""What a crash may leave of a folder: a change's system calls are recorded, and every state that they allow is made.

`Recording` notes each call that writes, in order: those of `os`, and through them what is written to files that `open` opened,
since these are `_pyio`'s meanwhile. At its end the tree that follows from the notes must be the one on the disk, so no call
escapes. It can kill the process before any of them.

`states` tells what may lie there after a crash, as in ALICE (OSDI '14, "All File Systems Are Not Created Equal"):

- killed: what the calls up to that one did, and no other.
- a power cut: of that whatever no sync has forced, in any selection. A write comes whole, not at all, cut at any byte, without
  some of its 512-byte blocks, or as a size alone: zeros, or what was there before. What is done to the names in a folder is
  forced by a sync of the folder, never by that of a file. A rename is one step, which the sync of either folder forces.

Where there are more selections than a limit, so many of them are drawn. `sweep` starts from each state; the one in which a
promise is not kept is Broken, with its seed and its calls.
"""

import _pyio
import contextlib
import io
import itertools
import os
import shutil
import stat
from collections.abc import Callable
from random import Random
from typing import NamedTuple
from unittest import mock

from bdserver.files import durable

BLOCK_BYTES = 512
# A shorter write is cut at every byte.
FINE_BYTES = 600


class Killed(BaseException):
    """The process ends before this call, and nothing that would clean up after it does anything."""


class Broken(AssertionError):
    """A crash may leave a state in which a promise is not kept."""


class Inode:
    """A file or folder as it is now, whatever its names are."""

    def __init__(self, mode, data=b""):
        self.mode, self.data, self.names = mode, bytearray(data), {}

    @property
    def is_folder(self):
        return stat.S_ISDIR(self.mode)

    def twin(self):
        """The same, of now."""
        twin = Inode(self.mode, self.data)
        twin.names = dict(self.names)
        return twin


class Names(NamedTuple):
    """One step in folders: each name leads to this inode from now on, or nowhere (None)."""

    changes: tuple[tuple[Inode, str, Inode | None], ...]

    def apply(self, now):
        for folder, name, inode in self.changes:
            if inode is None:
                now(folder).names.pop(name, None)
            else:
                now(folder).names[name] = inode

    def is_forced_by(self, sync):
        return any(folder is sync.inode for folder, _, _ in self.changes)


class Write(NamedTuple):
    """Bytes, and the size that the file has at least behind them; of a torn one, some of its blocks."""

    inode: Inode
    end: int
    blocks: tuple[tuple[int, bytes], ...]

    def apply(self, now):
        data = now(self.inode).data
        data.extend(bytes(max(self.end - len(data), 0)))
        for offset, block in self.blocks:
            part = block[: max(self.end - offset, 0)]
            data[offset : offset + len(part)] = part

    def is_forced_by(self, sync):
        return self.inode is sync.inode


class Cut(NamedTuple):
    """The file is so long from now on."""

    inode: Inode
    size: int

    def apply(self, now):
        data = now(self.inode).data
        data.extend(bytes(max(self.size - len(data), 0)))
        del data[self.size :]

    def is_forced_by(self, sync):
        return self.inode is sync.inode


class Mode(NamedTuple):
    """Who may read it."""

    inode: Inode
    mode: int

    def apply(self, now):
        now(self.inode).mode = self.mode

    def is_forced_by(self, sync):
        return self.inode is sync.inode and not sync.is_data_alone


class Sync(NamedTuple):
    """What was done to this file, or to the names in this folder, is on the disk."""

    inode: Inode
    is_data_alone: bool


class Told(NamedTuple):
    """Somebody outside was told, and counts on it."""

    what: object


class Call(NamedTuple):
    """A system call: its words, and what it does."""

    text: str
    step: Names | Write | Cut | Mode | Sync | Told


class State(NamedTuple):
    """What lies on the disk, path -> (mode, bytes, or None for a folder); what had been told; of which calls it is made."""

    tree: dict[str, tuple[int, bytes | None]]
    told: tuple[object, ...]
    is_killed: bool
    history: str


# --- recording ----------------------------------------------------------------------------------------------------

# Calls that write, and that nothing here uses: whatever will is to be recorded first.
_UNKNOWN = (
    "writev",
    "pwrite",
    "pwritev",
    "truncate",
    "copy_file_range",
    "splice",
    "posix_fallocate",
    "symlink",
    "mkfifo",
    "mknod",
)


class Recording:
    """A context in which all that is written below `root` is noted. With `kill_at`, the process ends before that call."""

    def __init__(self, root, kill_at=None):
        self.root = str(root)
        self.calls = []
        self.revived_at = 0
        self._kill_at, self._is_dead = kill_at, False
        self._top = _scan(self.root)
        self.begin = {inode: inode.twin() for inode in _inodes(self._top)}  # as they were; those that are made join them
        self._descriptors = {}
        self._real = {}
        self._patches = contextlib.ExitStack()

    @property
    def top(self):
        """The folder itself."""
        return self._top

    def told(self, what):
        """For the change to call when somebody outside hears that it is done."""
        self.calls.append(Call(f"told {what}", Told(what)))

    def revive(self):
        """What comes now is done by another process."""
        self._is_dead, self._kill_at, self.revived_at = False, None, len(self.calls)

    def __enter__(self):
        wrappers = {
            "open": self._open,
            "close": self._close,
            "write": self._write,
            "sendfile": self._sendfile,
            "ftruncate": self._ftruncate,
            "fsync": lambda descriptor: self.sync("fsync", descriptor),
            "fdatasync": lambda descriptor: self.sync("fdatasync", descriptor),
            "rename": lambda source, target: self._rename("rename", source, target),
            "replace": lambda source, target: self._rename("replace", source, target),
            "link": self._link,
            "unlink": lambda path, *, dir_fd=None: self._remove("unlink", path, dir_fd),
            "remove": lambda path, *, dir_fd=None: self._remove("remove", path, dir_fd),
            "rmdir": lambda path, *, dir_fd=None: self._remove("rmdir", path, dir_fd),
            "mkdir": self._mkdir,
            "chmod": lambda path, mode, *, follow_symlinks=True: self._mode("chmod", path, mode),
            "fchmod": lambda descriptor, mode: self._mode("fchmod", descriptor, mode),
        } | {name: _refusing(name) for name in _UNKNOWN}
        for name, wrapper in wrappers.items():
            self._real[name] = getattr(os, name)
            self._patches.enter_context(mock.patch.object(os, name, wrapper))
        self._real["renameat2"] = durable._renameat2
        self._patches.enter_context(mock.patch.object(durable, "_renameat2", self._exchange))
        self._patches.enter_context(mock.patch("builtins.open", _pyio.open))
        self._patches.enter_context(mock.patch.object(io, "open", _pyio.open))
        return self

    def __exit__(self, kind, *_):
        self._patches.close()
        if kind is None:
            assert _tree(self._top) == _tree(_scan(self.root)), "a call that writes has escaped the recording"

    # -- finding

    def _place(self, path, dir_fd=None):
        """(folder, name) of a path; None for one that is not below the root."""
        if dir_fd is not None:
            folder = self._descriptors.get(dir_fd)
            return None if folder is None else (folder, path)
        path = os.path.abspath(path)
        if not path.startswith(self.root + "/"):
            return None
        *folders, name = path[len(self.root) + 1 :].split("/")
        inode = self._top
        for each in folders:
            inode = inode.names.get(each)
            if inode is None:
                return None
        return inode, name

    def _at(self, path, dir_fd=None):
        if dir_fd is None and os.path.abspath(path) == self.root:
            return self._top
        place = self._place(path, dir_fd)
        return None if place is None else place[0].names.get(place[1])

    def _named(self, inode):
        """The first name that the inode has now, for the notes."""
        return next((path for path, each in _paths(self._top) if each is inode), "(a file without a name)")

    # -- noting

    def _alive(self):
        if self._is_dead or len(self.calls) == self._kill_at:
            self._is_dead = True
            raise Killed

    def _note(self, text, step):
        self.calls.append(Call(text, step))
        if not isinstance(step, Sync):
            step.apply(lambda inode: inode)

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        place = self._place(path, dir_fd)
        if place is not None and flags & (os.O_CREAT | os.O_TRUNC):
            self._alive()
        descriptor = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        inode = self._at(path, dir_fd)
        if inode is None and place is not None:
            inode = self._made(os.fstat(descriptor).st_mode)
            self._note(f"create {'/'.join((self._named(place[0]), place[1]))}", Names(((*place, inode),)))
        elif inode is not None and flags & os.O_TRUNC and inode.data:
            self._note(f"truncate {self._named(inode)} to 0", Cut(inode, 0))
        if inode is not None:
            self._descriptors[descriptor] = inode
        return descriptor

    def _made(self, mode):
        inode = Inode(mode)
        self.begin[inode] = inode.twin()
        return inode

    def _close(self, descriptor):
        self._descriptors.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor, data):
        if descriptor in self._descriptors:
            self._alive()
        written = self._real["write"](descriptor, data)
        self._wrote(descriptor, bytes(data)[:written])
        return written

    def _sendfile(self, out, source, offset, count):
        if out in self._descriptors:
            self._alive()
        sent = self._real["sendfile"](out, source, offset, count)
        self._wrote(out, os.pread(source, sent, offset))
        return sent

    def _wrote(self, descriptor, data):
        inode = self._descriptors.get(descriptor)
        if inode is not None and data:
            begin = os.lseek(descriptor, 0, os.SEEK_CUR) - len(data)
            self._note(
                f"write {len(data)} bytes at {begin} of {self._named(inode)}",
                Write(inode, begin + len(data), _blocks(begin, data)),
            )

    def _ftruncate(self, descriptor, size):
        inode = self._descriptors.get(descriptor)
        if inode is not None:
            self._alive()
        self._real["ftruncate"](descriptor, size)
        if inode is not None:
            self._note(f"truncate {self._named(inode)} to {size}", Cut(inode, size))

    def sync(self, name, descriptor):
        """fsync or fdatasync: noted, and else not done, since this disk is only a likeness."""
        inode = self._descriptors.get(descriptor)
        if inode is not None:
            self._alive()
            self._note(f"{name} {self._named(inode)}", Sync(inode, name == "fdatasync"))

    def _rename(self, name, source, target):
        one, other = self._place(source), self._place(target)
        assert (one is None) == (other is None), "a rename over the edge of what is recorded"
        if one is not None:
            self._alive()
        self._real[name](source, target)
        if one is not None and (inode := one[0].names[one[1]]) is not other[0].names.get(other[1]):
            step = Names(((*one, None), (*other, inode)))
            self._note(f"rename {self._named(inode)} to {'/'.join((self._named(other[0]), other[1]))}", step)

    def _exchange(self, one, other, flags):
        first, second = self._place(one), self._place(other)
        self._alive()
        self._real["renameat2"](one, other, flags)
        inodes = first[0].names[first[1]], second[0].names[second[1]]
        text = f"exchange {self._named(inodes[0])} and {self._named(inodes[1])}"
        self._note(text, Names(((*first, inodes[1]), (*second, inodes[0]))))

    def _link(self, source, target, *, follow_symlinks=True):
        place, inode = self._place(target), self._at(source)
        if place is not None:
            self._alive()
        self._real["link"](source, target, follow_symlinks=follow_symlinks)
        if place is not None:
            self._note(f"link {self._named(inode)} to {'/'.join((self._named(place[0]), place[1]))}", Names(((*place, inode),)))

    def _remove(self, name, path, dir_fd):
        place, inode = self._place(path, dir_fd), self._at(path, dir_fd)
        if place is not None:
            self._alive()
        self._real[name](path, dir_fd=dir_fd)
        if place is not None:
            self._note(f"{name} {self._named(inode)}", Names(((*place, None),)))

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        place = self._place(path, dir_fd)
        if place is not None:
            self._alive()
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        if place is not None:
            inode = self._made(os.stat(path, dir_fd=dir_fd).st_mode)
            self._note(f"mkdir {'/'.join((self._named(place[0]), place[1]))}", Names(((*place, inode),)))

    def _mode(self, name, which, mode):
        inode = self._descriptors.get(which) if isinstance(which, int) else self._at(which)
        if inode is not None:
            self._alive()
        self._real[name](which, mode)
        if inode is not None:
            self._note(f"chmod {mode & 0o777:o} {self._named(inode)}", Mode(inode, stat.S_IFMT(inode.mode) | mode & 0o7777))


def _refusing(name):
    def refuse(*arguments, **keywords):
        raise NotImplementedError(f"os.{name} is not recorded")

    return refuse


def _blocks(begin, data):
    """(offset, bytes) of each block of the disk that is written to."""
    found, at = [], 0
    while at < len(data):
        count = BLOCK_BYTES - (begin + at) % BLOCK_BYTES
        found.append((begin + at, data[at : at + count]))
        at += count
    return tuple(found)


# --- trees --------------------------------------------------------------------------------------------------------


def _scan(path):
    """The inode at a path, with all below it; two names of one file are one inode."""
    known = {}

    def scan(path):
        status = os.lstat(path)
        if status.st_ino not in known:
            inode = known[status.st_ino] = Inode(status.st_mode)
            if inode.is_folder:
                inode.names = {name: scan(os.path.join(path, name)) for name in os.listdir(path)}
            else:
                with open(path, "rb") as file:
                    inode.data = bytearray(file.read())
        return known[status.st_ino]

    return scan(str(path))


def _paths(folder, now=lambda inode: inode, path="."):
    """(path, inode) of the folder and all that can be reached from it."""
    yield path, folder
    for name, inode in now(folder).names.items():
        if now(inode).is_folder:
            yield from _paths(inode, now, f"{path}/{name}")
        else:
            yield f"{path}/{name}", inode


def _inodes(top):
    return [inode for _, inode in _paths(top)]


def _tree(top, now=lambda inode: inode):
    return {
        path: (stat.S_IMODE(now(inode).mode), None if now(inode).is_folder else bytes(now(inode).data))
        for path, inode in _paths(top, now)
    }


def make(tree, folder):
    """Put this state into a folder, which is made."""
    for path, (mode, data) in tree.items():
        place = os.path.normpath(os.path.join(folder, path))
        if data is None:
            os.mkdir(place)
        else:
            with open(place, "xb") as file:
                file.write(data)
        os.chmod(place, mode)


# --- states -------------------------------------------------------------------------------------------------------


def states(recording, seed, limit):
    """Each State that a crash may leave, once; of those at one call, so many at most."""
    rng, seen = Random(seed), set()
    calls = recording.calls
    for end in range(recording.revived_at, len(calls) + 1):
        told = tuple(call.step.what for call in calls[:end] if isinstance(call.step, Told))
        after = f"after {end} of {len(calls)} calls: {calls[end - 1].text}" if end else "before the first call"
        steps = [call.step for call in calls[:end] if not isinstance(call.step, Sync | Told)]
        found = [(True, steps)] if not recording.revived_at else []
        found += ((False, chosen) for chosen in _selections(calls[:end], rng, limit))
        for is_killed, chosen in found:
            tree = _after(recording, chosen)
            key = frozenset(tree.items()), told
            if key not in seen:
                seen.add(key)
                yield State(tree, told, is_killed, f"killed {after}" if is_killed else _history(after, calls[:end], chosen))


def _after(recording, steps):
    """The tree that these steps make of the one at the beginning."""
    twins = {}

    def now(inode):
        if inode not in twins:
            twins[inode] = recording.begin[inode].twin()
        return twins[inode]

    for step in steps:
        if step is not None:
            step.apply(now)
    return _tree(recording.top, now)


def _selections(calls, rng, limit):
    """What of these calls is on the disk after a power cut: of each step itself, a part of it, or None."""
    pending = [None] * len(calls)  # None: it is on the disk
    for at, (_, step) in enumerate(calls):
        if isinstance(step, Sync | Told):
            continue
        syncs = (later.step for later in calls[at + 1 :] if isinstance(later.step, Sync))
        if not any(step.is_forced_by(sync) for sync in syncs):
            pending[at] = step
    choices = [
        [None] if isinstance(step, Sync | Told) else [step] if pending[at] is None else _parts(step)
        for at, (_, step) in enumerate(calls)
    ]
    count = 1
    for each in choices:
        count *= len(each)
    if count <= limit:
        return itertools.product(*choices)
    return _drawn(choices, rng, limit)


def _drawn(choices, rng, limit):
    """Some of the selections: those where one step alone has come or is missing, then any."""
    free = [at for at, each in enumerate(choices) if len(each) > 1]
    none, whole = ([each[which] if len(each) > 1 else each[0] for each in choices] for which in (0, 1))
    likely = [none, whole]
    for at in free:
        likely += [none[:at] + whole[at : at + 1] + none[at + 1 :], whole[:at] + none[at : at + 1] + whole[at + 1 :]]
    rng.shuffle(likely)
    yield from likely[:limit]
    for _ in range(limit - len(likely)):
        share = rng.random()  # of those that have come whole: few, or nearly all
        yield [each[0] if len(each) == 1 else each[1] if rng.random() < share else rng.choice(each) for each in choices]


def _parts(step):
    """What a power cut may leave of a step: nothing, all; of a write some of it."""
    if not isinstance(step, Write):
        return [None, step]
    begin, size = step.blocks[0][0], step.end - step.blocks[0][0]
    cuts = range(1, size) if size <= FINE_BYTES else {1, size // 2, size - 1, *(each - begin for each, _ in step.blocks[1:])}
    parts = [None, step, step._replace(blocks=())]
    parts += [step._replace(end=begin + cut) for cut in sorted(cuts)]
    if len(step.blocks) > 1:
        for each in step.blocks:
            parts.append(step._replace(blocks=tuple(block for block in step.blocks if block is not each)))
    return parts


def _history(after, calls, chosen):
    lines = [f"power cut {after}; on the disk is, beside what was synced:"]
    for (text, step), what in zip(calls, chosen, strict=True):
        if not isinstance(step, Sync | Told) and what is not step:
            lines.append(f"  not {text}" if what is None else f"  to byte {what.end}, {len(what.blocks)} blocks, {text}")
    return "\n".join(lines)


# --- starting from each -------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """A change of files below a folder, and what is promised whatever happens in the middle of it.

    before(root): what is there, and on the disk. do(root, told): the change. promise(root, told, is_killed): an AssertionError
    when that is not kept; it is called with each state, and may do with it what a start would."""

    before: Callable[[str], object]
    do: Callable[[str, Callable[[object], None]], object]
    promise: Callable[[str, tuple[object, ...], bool], object]


def sweep(change, folder, seed, limit):
    """Crash at each call, and start from each state that this may leave; how many states there were."""
    root = _begun(change, folder)
    with Recording(root) as recording:
        change.do(root, recording.told)
    return _keep(change, recording, folder, seed, limit, "")


def sweep_killed(change, again, folder, seed, limit):
    """The same, when a process was killed at each call, and the power is cut while another one does `again`: what the killed
    one had written is still on its way to the disk."""
    count, kill_at = 0, 0
    while True:
        root = _begun(change, folder)
        with Recording(root, kill_at) as recording:
            with contextlib.suppress(Killed):
                change.do(root, recording.told)
                return count
            recording.revive()
            again(root, recording.told)
        count += _keep(change, recording, folder, seed, limit, f"a process was killed after {kill_at} calls; then ")
        kill_at += 1


def _synced(descriptor):
    pass


def _begun(change, folder):
    root = os.path.join(folder, "recorded")
    shutil.rmtree(root, ignore_errors=True)
    os.mkdir(root)
    change.before(root)
    return root


def _keep(change, recording, folder, seed, limit, before):
    count = 0
    for count, state in enumerate(states(recording, seed, limit), 1):
        root = os.path.join(folder, "left")
        make(state.tree, root)
        try:
            # Whoever starts from it does not wait for a disk: these states come after its syncs, or before.
            with mock.patch.object(os, "fsync", _synced), mock.patch.object(os, "fdatasync", _synced):
                change.promise(root, state.told, state.is_killed)
        except Exception as error:
            calls = "\n".join(f"  {at} {call.text}" for at, call in enumerate(recording.calls, 1))
            told = f"told: {state.told}\nall calls:\n{calls}"
            raise Broken(f"{error!r}\n{before}{state.history}\nseed {seed}, limit {limit}, state {count}\n{told}") from error
        shutil.rmtree(root)
    return count

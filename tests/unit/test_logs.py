"""The log: nothing that is wrong with it ends or delays what is logged, and lines that were lost are counted."""

import fcntl
import json
import logging
import os
import re
import select
import socket
import sys
import time

import pytest

from bdserver.processes import logs
from bdserver.processes.lograte import BURST, TELL_SECONDS
from tests.unit.clocks import Clock

PLAIN = logging.Formatter("%(message)s")


@pytest.fixture
def logger():
    """A logger of its own, for one handler."""
    log = logging.Logger("test")
    yield log
    log.handlers.clear()


def into(logger, sink):
    logger.addHandler(logs.Handler(sink, PLAIN))
    return logger


class Lines(list):
    """A sink that keeps what it gets."""

    def write(self, text, level):
        self.append(text)


# --- what is said -------------------------------------------------------------------------------------------------


def test_a_line_that_comes_again_and_again_is_said_thrice_and_then_how_often(logger, monkeypatch):
    lines, clock = Lines(), Clock(100.0)
    monkeypatch.setattr(logs, "time", clock)
    into(logger, lines)
    for number in range(40):
        logger.warning("%s: no", "joe")
        if number % 10 == 0:
            logger.warning("something else %d", number)
    assert [line for line in lines if "else" not in line] == ["joe: no"] * 3 and len(lines) == 3 + 4
    del lines[:]
    clock.now += logs.REPEAT_SECONDS
    logger.warning("joe: no")
    assert lines == ["joe: no … 37 times more"]
    clock.now += 2 * logs.REPEAT_SECONDS - 0.1
    logger.warning("another")
    assert lines[1:] == ["another"]
    clock.now += 0.125
    logger.info("joe: no")  # less loud: that is another line
    assert lines[2:] == ["joe: no … once more", "joe: no"]


def test_a_flood_without_end_is_a_line_a_minute(logger, monkeypatch):
    lines, clock = Lines(), Clock(100.0)
    monkeypatch.setattr(logs, "time", clock)
    into(logger, lines)
    for _ in range(28_800):
        logger.warning("again")
        clock.now += 0.125
    assert 60 <= len(lines) < 70 and lines[-1] == "again … 480 times more"
    lines.clear()
    clock.now += 2 * logs.REPEAT_SECONDS_MAX
    logger.warning("x")
    clock.now += 2 * logs.REPEAT_SECONDS_MAX
    logger.warning("again")
    assert lines[1:] == ["x", "again"]  # it had stopped, and is said at once


def test_what_came_again_is_told_by_the_process_that_ends_and_by_no_other(logger, tmp_path):
    into(logger, logs.File(str(tmp_path / "log")))
    for _ in range(4):
        logger.warning("a")
    pid = os.fork()
    if pid == 0:
        for _ in range(5):
            logger.warning("a")
        logger.handlers[0].flush()
        os._exit(0)
    os.waitpid(pid, 0)
    logger.handlers[0].flush()
    assert (tmp_path / "log").read_text().splitlines() == ["a"] * 6 + ["a … 2 times more", "a … once more"]


def test_what_a_stranger_wrote_moves_no_terminal_and_is_no_line_of_ours(logger):
    into(logger, sink := Lines())
    logger.info("%s tells: %s", "evil", "x\n2026-11-27 bdserverd ERROR: forged\x1b[2J\r")
    assert sink == ["evil tells: x\n  2026-11-27 bdserverd ERROR: forged\\x1b[2J\\r"]
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logger.exception("met")
    assert sink[1].endswith("ValueError: \\x1b[2J") and "\x1b" not in sink[1]


def test_what_is_remembered_has_a_bound(logger):
    into(logger, lines := Lines())
    for _ in range(logs.SAID_MAX + 1):
        for number in range(logs.REMEMBERED_MAX + 5):
            logger.warning("%d", number)
    assert len(lines) == logs.SAID_MAX * logs.REMEMBERED_MAX + 5 * (logs.SAID_MAX + 1)


def test_a_kind_of_line_that_comes_in_ever_other_words_is_left_out_and_counted(logger, monkeypatch):
    """One process after the other, as children are."""
    lines, clock = Lines(), Clock(100.0)
    monkeypatch.setattr(logs, "time", clock)
    into(logger, lines)
    for number in range(BURST + 40):
        logger.warning("a frame of %d bytes is too long", number)
    assert len(lines) == BURST
    clock.now += TELL_SECONDS
    logger.warning("something else")
    assert lines[BURST:] == ["40 lines of this log were left out: the like came more often than 2 a second", "something else"]


def test_what_came_again_in_each_process_is_told_no_more_often_either(logger, tmp_path):
    into(logger, logs.File(str(tmp_path / "log")))
    for _ in range(BURST // 2 // (logs.SAID_MAX + 1) + 10):
        pid = os.fork()
        if pid == 0:
            for _ in range(logs.SAID_MAX + 2):
                logger.warning("a")
                logger.debug("b")
            logger.handlers[0].flush()
            os._exit(0)
        os.waitpid(pid, 0)
    said = (tmp_path / "log").read_text().splitlines()
    assert said.count("a") + said.count("a … 2 times more") <= BURST < len(said)


def test_who_debugs_sees_each(logger):
    into(logger, lines := Lines())
    for _ in range(100):
        logger.debug("again")
    assert len(lines) == 100


def recurse(depth, text):
    if depth == 0:
        raise ValueError(text)
    (recurse if depth % 2 else lambda *rest: recurse(*rest))(depth - 1, text)


@pytest.mark.parametrize(
    ("depth", "text"), [(500, "x"), (3, "x" * 100_000), (3, "x\n" * 100_000)], ids=["deep", "long", "many"]
)
def test_of_a_traceback_so_much_is_said_as_helps(logger, depth, text):
    into(logger, lines := Lines())
    try:
        try:
            recurse(depth, text)
        except ValueError:
            raise RuntimeError("on top") from None
    except RuntimeError:
        logger.exception("met a bug")
    try:
        recurse(depth, text)
    except ValueError:
        logger.exception("met another")
    for said in lines:
        assert len(said.splitlines()) <= logs.TRACEBACK_LINES_MAX + 2 and len(said) < 40_000
    assert "RuntimeError: on top" in lines[0] and ("raise ValueError" in lines[1] or "lines more" in lines[1])


# --- a file -------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder / "node.log"


def test_a_file_that_was_moved_away_is_opened_anew(logger, file):
    into(logger, logs.File(str(file)))
    logger.info("one")
    file.rename(f"{file}.1")
    logger.info("two")
    assert file.read_text() == "two\n" and (file.parent / "node.log.1").read_text() == "one\n"


def test_a_folder_that_is_removed_costs_lines_and_they_are_counted(logger, file):
    into(logger, logs.File(str(file)))
    logger.info("one")
    file.unlink()
    file.parent.rmdir()
    for _ in range(3):
        logger.info("lost")
    file.parent.mkdir()
    logger.info("two")
    logger.info("three")
    assert file.read_text() == "3 lines of this log were lost: No such file or directory\ntwo\nthree\n"


def test_a_rotation_that_leaves_what_cannot_be_written_costs_lines(logger, file):
    into(logger, logs.File(str(file)))
    file.unlink()
    file.mkdir()
    logger.info("lost")
    file.rmdir()
    logger.info("two")
    assert file.read_text() == "1 line of this log was lost: Is a directory\ntwo\n"


def test_a_pipe_that_nobody_reads_in_the_files_place_delays_nothing(logger, file):
    into(logger, logs.File(str(file)))
    file.unlink()
    os.mkfifo(file)
    started = time.monotonic()
    logger.info("lost")
    assert time.monotonic() - started < 1
    file.unlink()
    logger.info("two")
    assert file.read_text().endswith("two\n")


def test_a_full_disk_costs_lines(logger):
    sink = logs.File("/dev/full")
    into(logger, sink)
    logger.info("lost")  # and does not raise
    assert logger.handlers[0]._lost == 1


def test_a_file_that_can_never_be_opened_is_said_at_the_start(tmp_path):
    with pytest.raises(FileNotFoundError):
        logs.to_background(str(tmp_path / "nowhere" / "log"))


def test_a_line_whose_values_do_not_fit_is_lost_and_told_of(logger, file):
    into(logger, logs.File(str(file)))
    logger.info("%d", "three")
    logger.info("two")
    assert re.fullmatch(r"1 line of this log was lost: test: %d format.*\ntwo\n", file.read_text())


# --- a stream -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["pipe", "socket"])
def stream(request):
    """(the end that is read, a sink at the other one, its descriptor)"""
    if request.param == "pipe":
        read, write = os.pipe()
        yield read, logs.Stream(write), write
        os.close(read)
        os.close(write)
    else:
        ours, theirs = socket.socketpair()
        yield ours.fileno(), logs.Stream(theirs.fileno()), theirs.fileno()
        ours.close()
        theirs.close()


def drained(descriptor):
    data = b""
    while select.select([descriptor], [], [], 0.2)[0]:
        data += os.read(descriptor, 1 << 16)
    return data.decode()


def test_what_nobody_reads_costs_lines_and_delays_nothing(logger, stream):
    read, sink, _ = stream
    into(logger, sink)
    for number in range(20000):  # who waited for a reader would be at the first of them for ever
        logger.debug("line %05d of many, and then some more words", number)  # of others, 500 are enough
    before = drained(read).splitlines()
    logger.info("the last")
    lost, last = drained(read).splitlines()
    assert last == "the last"
    assert lost == f"{20000 - len(before)} lines of this log were lost: Resource temporarily unavailable"
    assert all(re.fullmatch(r"line \d{5} of many, and then some more words", line) for line in before)  # each of them whole


def test_whoever_shares_the_stream_waits_as_before(stream):
    _, _, write = stream
    assert os.get_blocking(write)


def test_a_reader_that_is_gone_ends_nobody(logger):
    read, write = os.pipe()
    into(logger, logs.Stream(write))
    os.close(read)
    logger.info("lost")
    os.close(write)


def test_a_text_that_is_longer_than_a_pipe_takes_at_once_goes_in_by_lines(logger, stream):
    read, sink, _ = stream
    into(logger, sink)
    lines = [f"{number:03} " + "x" * 90 for number in range(100)] + ["y" * 10000]
    logger.info("\n".join(lines))
    *whole, cut = drained(read).splitlines()
    assert whole == [lines[0], *(f"  {line}" for line in lines[1:-1])] and cut == "  " + "y" * (logs.ATOMIC_BYTES - 3)


def test_a_file_as_stderr_is_written_in_order_with_others(logger, tmp_path):
    with open(tmp_path / "out", "ab") as file:
        into(logger, logs.Stream(file.fileno()))
        logger.info("one")
        os.write(file.fileno(), b"two\n")
        logger.info("three\udcff")
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\\udcff\n"


def test_stderr_says_whose_line_it_is_and_how_bad(tmp_path, monkeypatch):
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        handler, needed = logs.to_stderr()
        handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, "text", None, None))
        assert needed == [file.fileno()]
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.to_stderr()[0].handle(logging.LogRecord("x", logging.ERROR, "", 0, "text", None, None))
    assert (tmp_path / "out").read_text() == "bdserverd: ERROR: text\n<3>text\n"


def test_the_own_way_to_a_pipe_is_named_so_that_a_daemon_keeps_it():
    read, write = os.pipe()
    [needed] = logs.Stream(write).files()
    assert needed != write and fcntl.fcntl(needed, fcntl.F_GETFL) & os.O_NONBLOCK
    for descriptor in (read, write, needed):
        os.close(descriptor)


# --- syslog -------------------------------------------------------------------------------------------------------


class Daemon:
    """A syslog daemon that reads when it is asked to."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.setblocking(False)

    def read(self):
        found = []
        try:
            while True:
                found.append(self.sock.recv(1 << 16).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def dev_log(tmp_path):
    return str(tmp_path / "dev-log")


def test_a_line_has_its_priority(logger, dev_log):
    syslog = Daemon(dev_log)
    into(logger, logs.Syslog(dev_log))
    logger.error("bad")
    logger.info("well")
    assert syslog.read() == ["<27>bad", "<30>well"]


def test_a_syslog_that_reads_nothing_costs_lines_and_delays_nothing(logger, dev_log):
    syslog = Daemon(dev_log)
    into(logger, logs.Syslog(dev_log))
    started = time.monotonic()
    for number in range(900):
        logger.debug("line %d", number)
    assert time.monotonic() - started < 5
    taken = syslog.read()
    assert all(line.startswith("<31>line") for line in taken) and len(taken) < 900
    logger.info("the last")
    assert syslog.read() == [
        f"<28>{900 - len(taken)} lines of this log were lost: Resource temporarily unavailable",
        "<30>the last",
    ]


def test_a_syslog_that_was_started_anew_gets_the_next_line(logger, dev_log):
    into(logger, logs.Syslog(dev_log))
    for number in range(2):
        syslog = Daemon(dev_log)
        logger.info("line %d", number)
        assert syslog.read() == [f"<30>line {number}"]
        syslog.sock.close()
        os.unlink(dev_log)


def test_without_a_syslog_nothing_happens_until_there_is_one(logger, dev_log):
    stale = Daemon(dev_log)
    stale.sock.close()  # the file stays, and nobody is behind it
    into(logger, logs.Syslog(dev_log))
    logger.info("lost")
    os.unlink(dev_log)
    syslog = Daemon(dev_log)
    logger.info("line")
    assert syslog.read() == ["<28>1 line of this log was lost: Connection refused", "<30>line"]


def test_a_host_without_dev_log_has_its_syslog_at_the_old_port(logger, dev_log, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(5)
        monkeypatch.setattr(logs, "SYSLOG_PORT", syslog.getsockname()[1])
        into(logger, logs.Syslog(dev_log))
        logger.info("line")
        assert syslog.recv(100) == b"<30>line"


# --- all of it ----------------------------------------------------------------------------------------------------


@pytest.fixture
def root():
    """The root logger, put back afterwards."""
    log = logging.getLogger()
    before = log.handlers[:], log.level
    yield log
    log.handlers[:], level = before
    log.setLevel(level)


def test_what_is_worth_a_line_is_a_setting_and_can_be_changed(root, file):
    logs.install(logs.to_background(str(file)), "warning")
    logging.getLogger("bdserver.x").info("no")
    logs.set_level("debug")
    logging.getLogger("bdserver.x").debug("yes")
    logging.getLogger("filelock").debug("never")
    assert re.fullmatch(r"20\d\d-\S+ \S+ bdserverd\[\d+\] DEBUG: yes\n", file.read_text())


def test_without_a_file_the_background_logs_to_syslog():
    handler = logs.to_background("")
    assert isinstance(handler.sink, logs.Syslog)
    assert handler.format(logging.LogRecord("x", 20, "", 0, "text", None, None)) == f"bdserverd[{os.getpid()}]: text"


def a_record(message, level=logging.INFO, error=None):
    record = logging.LogRecord("bdserver.child", level, "x.py", 1, message, (), error)
    record.exc_text = "x" * 9000 + "\nKeyError: 'last'" if error else None
    return record


def test_a_line_of_json_has_all_of_it():
    said = json.loads(logs.JsonFormatter().format(a_record('a "b"\n\u00fc')))
    assert said.pop("at") > 0 and said.pop("process") == os.getpid()
    assert said == {"level": "info", "logger": "bdserver.child", "message": 'a "b"\n\u00fc'}


def test_a_long_line_of_json_is_cut_and_stays_one_line_of_json():
    text = logs.JsonFormatter(has_priority=True).format(a_record("\x01" * 9000, logging.ERROR, True))
    assert text.startswith("<3>{") and len(text) < logs.ATOMIC_BYTES and "\n" not in text
    said = json.loads(text[3:])
    assert said["message"].startswith("\x01") and said["trace"].endswith("KeyError: 'last'")


def test_json_goes_to_a_file_too(tmp_path):
    handler = logs.to_background(str(tmp_path / "log"), logs.JSON)
    handler.emit(a_record("one"))
    handler.emit(a_record("two"))
    assert [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()] == ["one", "two"]

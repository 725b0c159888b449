"""What the daemon says, and where: a log file that logrotate moves away, no secret ever, nothing idle at INFO; bdctl watch."""

import os
import re
import shutil
import signal
import subprocess
import sys

from tests.hosts import RUN, until


def background(host):
    """Start as the init script does."""
    line = [sys.executable, "-c", RUN, "bdserverd", host.config_path]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done


def test_a_log_file_that_is_moved_away_is_opened_anew(mesh, tmp_path):
    path = tmp_path / "bdserver.log"
    host = mesh.host("alpha", log_file=path, log_level="info")
    background(host)
    try:
        assert re.fullmatch(
            r"20\d\d-\S+ \S+ bdserverd\[\d+\] INFO: alpha of demo answers at \S+\n", path.read_text().splitlines(True)[0]
        )
        os.rename(path, f"{path}.1")
        with open(os.path.join(host.folder, "var", "run", "alpha.pid")) as file:
            listener = int(file.read())
        os.kill(listener, 1)
        until(lambda: path.exists() and "read anew" in path.read_text(), 20, "the new file has the next line")
        host.run("bdctl", "drain")  # a child's line goes there as well
        until(lambda: "draining begun by admin" in path.read_text(), 20, "a child's line")
        assert "read anew" not in (tmp_path / "bdserver.log.1").read_text()
    finally:
        host.run("bdctl", "leave")
        until(lambda: not os.path.exists(host.socket.replace(".sock", ".pid")), 20, "it has ended")


def test_a_log_whose_folder_is_removed_ends_nobody_and_goes_on_when_it_is_back(mesh, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    host = mesh.host("alpha", log_file=folder / "log")
    background(host)
    try:
        shutil.rmtree(folder)
        for _ in range(3):
            assert host.run("bdctl", "drain").returncode == 0  # each a line
        folder.mkdir()
        with open(host.socket.replace(".sock", ".pid")) as file:
            os.kill(int(file.read()), signal.SIGHUP)
        until(lambda: (folder / "log").exists() and "read anew" in (folder / "log").read_text(), 20, "it goes on")
        assert host.ask(["PING"])[0] == "PONG"
        host.run("bdctl", "drain")
        until(lambda: "draining begun" in (folder / "log").read_text(), 20, "a child's line too")
    finally:
        host.run("bdctl", "leave")
        until(lambda: not os.path.exists(host.socket.replace(".sock", ".pid")), 20, "it has ended")


def test_a_stderr_that_nobody_reads_delays_nobody(mesh):
    host = mesh.host("alpha", log_level="debug")
    line = [sys.executable, "-c", RUN, "bdserverd", "--foreground", host.config_path]
    open(host.log_path, "w").close()
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        host.process = process
        host.wait_ready()
        for _ in range(1500):  # a line each, of some 60 bytes: more than a pipe holds
            assert host.ask(["PING"])[0] == "PONG"
        said = os.read(process.stderr.fileno(), 1 << 20)
        assert len(said) > 30000
        until(
            lambda: host.ask(["PING"]) and b"lines of this log were lost" in os.read(process.stderr.fileno(), 1 << 20),
            20,
            "lost",
        )
        host.end()


def test_a_quiet_node_at_info_says_nothing_and_no_line_has_a_secret(mesh):
    secret = "correct-horse-battery-staple"
    alpha = mesh.host("alpha", log_level="info", admin_password=secret).start()
    beta = mesh.host("beta", log_level="info", hints=alpha.address).start()
    mesh.wait_known()
    with open(os.path.join(alpha.folder, "alpha.key")) as file:
        key = file.read().splitlines()[1]
    until(lambda: "no longer lonely" in alpha.log, 20, "the discoverer has met beta")
    before = alpha.log.count("\n")
    for _ in range(20):
        beta.lookup("Nothing")
        alpha.ctl("status")
    assert alpha.log.count("\n") == before, "lookups and looking are not worth a line: " + alpha.log
    beta.kill()
    until(lambda: "beta is dead" in alpha.log, 30, "a death is worth one")
    for host in (alpha, beta):
        assert secret not in host.log and key not in host.log


def test_watch_tells_of_each_change(mesh, tmp_path):
    alpha, beta = mesh.start(2)
    mesh.wait_known()
    line = [sys.executable, "-u", "-c", RUN, "bdctl", "--config", alpha.config_path, "watch"]
    path = tmp_path / "watched"

    def told(words):
        return words in path.read_text()

    with open(path, "w") as file, subprocess.Popen(line, stdout=file) as watching:
        beta.kill()
        until(lambda: told(f"{beta.name} is dead"), 60, "the death is told of")
        beta.start()
        until(lambda: told(f"{beta.name} was started anew"), 60, "the new start is told of")
        beta.add_service("Echo")
        until(lambda: told(f"{beta.name} offers Echo (static)"), 30, "the service is told of")
        alpha.end()
        until(lambda: told("this node does not answer"), 30, "its own silence is told of")
        watching.terminate()
    done = subprocess.run([*line[:-1], "export", "json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4 and done.stdout == ""

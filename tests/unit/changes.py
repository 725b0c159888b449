"""Changes of a services folder, as a node makes them, in one line each."""

import os
import stat

from bdserver.core.membership import STATIC
from bdserver.files.bdcert import SUFFIX, Service, read_service


def publish(services, source, name, cost, url="", health="none"):
    """What an administrator brings: `source` is a file or folder, or None for what has just a url."""
    is_packed = source is not None and os.path.lexists(source + SUFFIX) and not _is_pipe(source)
    extra = read_service(os.path.dirname(source), name).extra if is_packed else ()
    services.publish(Service(name, STATIC, cost, url, health, source, 0.0, extra))


def install(services, folder, name, now):
    """What came in a package, and was unpacked to a folder."""
    services.install(folder, services.unpacked(folder, name), now)


def _is_pipe(path):
    return stat.S_ISFIFO(os.lstat(path).st_mode)

"""Changes of a services folder, as a node makes them, in one line each."""

from bdserver.core.membership import STATIC
from bdserver.files.services import Service


def publish(services, source, name, cost, url="", health="none"):
    """What an administrator brings: `source` is a file or folder, or None for what has just a url."""
    services.publish(Service(name, STATIC, cost, url, health, source, 0.0))


def install(services, folder, name, now):
    """What came in a package, and was unpacked to a folder."""
    services.install(folder, services.unpacked(folder, name), now)

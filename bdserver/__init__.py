"""BDserver: a service mesh for plain Unix hosts, without a central server.

    bdserver.whereis("calculator").url      a host that serves it now; see bdserver.api and docs/PYTHON.md

What stands in API is looked up when it is used: each command imports this module, and pays for nothing else."""

__version__ = "1.0.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bdserver.api import Location, Mesh, get_audit_info, get_wsdl, kill_all, whereis

API = ("Location", "Mesh", "get_audit_info", "get_wsdl", "kill_all", "whereis")
__all__ = ["API", "Location", "Mesh", "__version__", "get_audit_info", "get_wsdl", "kill_all", "whereis"]


def __getattr__(name: str) -> object:
    if name not in API:
        raise AttributeError(f"module 'bdserver' has no attribute {name!r}")
    from bdserver import api

    return getattr(api, name)

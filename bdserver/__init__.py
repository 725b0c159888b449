"""BDserver: a service mesh for plain Unix hosts, without a central server."""

__version__ = "1.0.0"

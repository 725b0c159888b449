"""The commands of bdctl, by topic: nodes, services, access. What takes more than a request has a module of its own here."""

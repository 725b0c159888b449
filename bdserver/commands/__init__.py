"""The commands: each module has a `main(arguments) -> exit status`; nobody imports them."""

"""A clock that stands still until a test moves it: so a machine that is busy is no part of what is tested."""


class Clock:
    """What time it is, as the test says. It stands for a function that tells the time, or for a module's `time`."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now

    monotonic = __call__

"""The one error of stores: what is wrong, with which file, and what to do about it."""


class StoreError(RuntimeError):
    """A store is missing, damaged, full, of another version, or made by another chain; the message says what to do."""

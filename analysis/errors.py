"""What can be wrong with what is given."""


class RecordsError(ValueError):
    """A file or folder that cannot be read as the contract says; its message is one line with a way out."""

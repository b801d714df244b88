"""The one exception of this package."""


class DataError(ValueError):
    """Data that is missing, damaged, untrustworthy or too small for what was asked; the message names it.

    >>> issubclass(DataError, ValueError)
    True
    """

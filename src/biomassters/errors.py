"""The one exception that means "your input, not our code"."""


class BadInputError(ValueError):
    """Input that the user can mend.

    The message is one sentence that names the culprit (a file, a parameter) and the
    remedy. The command line prints it alone, without a traceback.
    """

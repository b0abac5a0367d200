"""The one exception for mistakes in what a user gave."""


class InputError(Exception):
    """A configuration, file or image that cannot be used as it is.

    Its message names the file, the field or the image, says what was expected and what to do. Stages
    print it without a traceback and end with exit code 2.
    """

# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on: one line that says what was expected, what was found, and where."""


class GenMimicError(Exception):
    """Base of all errors that are reported as one line, with exit code 2."""


class MotionError(GenMimicError, ValueError):
    """A motion file or array breaks the format of DESIGN section 5."""


class ManifestError(GenMimicError, ValueError):
    """A policy file does not fit this runtime or this robot."""


class ConfigError(GenMimicError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class InputFileError(GenMimicError, OSError):
    """A file is missing, unreadable or of an unknown kind."""


class MissingDependencyError(GenMimicError, ImportError):
    """An optional package is needed for what was asked."""


class LinkError(GenMimicError, ConnectionError):
    """The robot is not there, is another robot, or may not be commanded now."""

"""Libraries that leave files open which they have read, of which a later test would be told."""

import pytest

__all__ = ["OPEN_FILES"]

_WARNINGS = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def OPEN_FILES(test):  # noqa: N802 - a mark
    """For tests that use one: what it left is collected, and forgiven, when the test is over."""
    return pytest.mark.usefixtures("collected")(pytest.mark.filterwarnings(*_WARNINGS)(test))

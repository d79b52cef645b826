"""What all tests share: chance that repeats, and output that no terminal decorates."""

import os

from hypothesis import settings

settings.register_profile("isthmus", derandomize=True, deadline=None)
settings.load_profile("isthmus")

# Some terminals and CI systems ask for colours, and rich obeys when it is imported.
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)
os.environ.update(NO_COLOR="1", COLUMNS="120")

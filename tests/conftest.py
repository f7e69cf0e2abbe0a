"""What holds for all tests: the cache of whoever runs them is neither read nor written."""

from __future__ import annotations

import os
import tempfile

_FOLDER = tempfile.TemporaryDirectory(prefix="symprop-tests-", ignore_cleanup_errors=True)
"""One for each process that runs tests; it is gone when the process ends."""

os.environ["SYMPROP_CACHE_DIR"] = _FOLDER.name

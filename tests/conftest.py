"""What holds for all tests: the cache of whoever runs them is neither read nor written."""

from __future__ import annotations

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # the processes that xdist starts share this one's
    _FOLDER = tempfile.TemporaryDirectory(prefix="symprop-tests-", ignore_cleanup_errors=True)
    os.environ["SYMPROP_CACHE_DIR"] = _FOLDER.name

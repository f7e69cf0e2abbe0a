"""What holds for all tests: the cache of whoever runs them is neither read nor written.

Python looks for garbage more seldom, as in symprop's commands: a tenth of the time goes into that.
"""

from __future__ import annotations

import gc
import os
import tempfile

gc.set_threshold(200_000)

if "PYTEST_XDIST_WORKER" not in os.environ:  # the processes that xdist starts share this one's
    _FOLDER = tempfile.TemporaryDirectory(prefix="symprop-tests-", ignore_cleanup_errors=True)
    os.environ["SYMPROP_CACHE_DIR"] = _FOLDER.name

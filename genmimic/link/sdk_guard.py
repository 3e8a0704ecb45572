# SPDX-License-Identifier: Apache-2.0
"""`genmimic.link.guard` over `unitree_sdk2py`, in a worker of its own."""

from __future__ import annotations

import sys

from genmimic.link.guard import main
from genmimic.link.sdk_bus import open_worker_bus

if __name__ == "__main__":
    sys.exit(main(open_bus=open_worker_bus))

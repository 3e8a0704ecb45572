# SPDX-License-Identifier: Apache-2.0
"""``python -m genmimic.cli`` is ``genmimic``."""

import sys

from genmimic.cli import main

if __name__ == "__main__":
    sys.exit(main())

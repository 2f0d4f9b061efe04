"""`python -m mambaout` is the same as `mambaout`."""

import sys

from mambaout.cli import main

sys.exit(main())

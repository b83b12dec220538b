"""``python -m medptq``: the command line."""

import sys

from medptq.cli import main

sys.exit(main())

"""`python tests/bench`: finds the checkout that it lies in, then run's main."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.bench.run import main

sys.exit(main())

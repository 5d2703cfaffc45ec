"""Damages small datasets at random and reads each in every way there is: ``python tests/mutations/run.py --help``."""

import os
import sys
from pathlib import Path

# Children are forked, so nothing may start threads where it is imported.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
sys.path[0] = str(Path(__file__).parents[1])

if __name__ == "__main__":
    from mutations.campaign import main

    sys.exit(main())

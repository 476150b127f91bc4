"""`python -m amplifier_module_provider_vllm doctor`, and the other commands."""

import sys

from ._cli import main

sys.exit(main())

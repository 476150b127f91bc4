"""`python -m amplifier_module_provider_vllm doctor`."""

import sys

from ._doctor.cli import main

sys.exit(main())

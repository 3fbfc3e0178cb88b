"""``python -m convspec``."""

from .cli import main

raise SystemExit(main())

"""`python -m turnout`, which launchers such as torchrun call."""

from __future__ import annotations

from turnout.cli import main

if __name__ == "__main__":
    main()

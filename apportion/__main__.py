"""`python -m apportion`."""

from .cli import main

main()

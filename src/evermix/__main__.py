"""`python -m evermix` is the command `evermix`."""

from evermix.cli import main

if __name__ == "__main__":
    main()

"""The new commands while the old ones still stand."""

from train.cli.app import main

if __name__ == "__main__":
    main()

"""``python -m train``: from folders of scans to a bundle that the node runs."""

from train.cli.app import main

if __name__ == "__main__":
    main()

"""python -m fedcore: the command line."""

from fedcore.cli.main import run

if __name__ == "__main__":
    run()
